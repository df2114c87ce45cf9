// Builds the package from `core/`, where `cargo xtask` leaves wasm-bindgen's output: `node build.mjs` makes `dist/`,
// `node build.mjs --glue` only `core/glue.js`, which the tests need too.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/**
 * wasm-bindgen's module keeps one instance in variables of its own and offers no way to drop it. As the body of a function the
 * same text gives each client its own instance, so that one that has trapped can be replaced.
 */
function writeGlue() {
  const source = here('core/core.js');
  if (!existsSync(source)) throw new Error(`${source} is missing: run "cargo xtask wasm"`);
  const text = readFileSync(source, 'utf8');
  const cut = (from, pattern, by) => {
    if (!pattern.test(from)) throw new Error(`core/core.js does not look as expected: no ${pattern}. Adapt build.mjs`);
    return from.replace(pattern, by);
  };
  let body = cut(text, /^export class Core\b/m, 'class Core');
  body = cut(body, /^export \{ initSync, __wbg_init as default \};$/m, 'initSync({ module });\nreturn Core;');
  // The loader for urls is ours (src/shell/load.ts).
  body = cut(body, /^async function __wbg_load\([\s\S]*?^}$/m, '');
  body = cut(body, /^async function __wbg_init\([\s\S]*?^}$/m, '');
  body = cut(body, /^async function __wbg_init_once\([\s\S]*?^}$/m, '');
  writeFileSync(here('core/glue.js'), `export function instantiate(module) {\n${body}\n}\n`);
}

writeGlue();
if (!process.argv.includes('--glue')) {
  const { build } = await import('esbuild');
  rmSync(here('dist'), { recursive: true, force: true });
  await build({
    absWorkingDir: here('.'),
    // Each stands alone: who does not import the store or the tabs does not load them.
    entryPoints: { index: 'src/index.ts', store: 'src/store/index.ts', tabs: 'src/tabs/index.ts' },
    outdir: 'dist',
    bundle: true,
    format: 'esm',
    target: 'es2022',
    minify: true,
    sourcemap: true,
  });
  await build({
    absWorkingDir: here('.'),
    entryPoints: { react: 'src/react/index.ts' },
    outdir: 'dist',
    bundle: true,
    external: ['react'],
    format: 'esm',
    target: 'es2022',
    minify: true,
    sourcemap: true,
    // Hooks run in the browser; a server component that imports them is told so.
    banner: { js: "'use client';" },
  });
  execFileSync('tsc', ['-p', here('tsconfig.types.json')], { stdio: 'inherit' });
  copyFileSync(here('core/core_bg.wasm'), here('dist/core_bg.wasm'));
}
