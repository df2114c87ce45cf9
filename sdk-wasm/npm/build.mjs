// Builds the package into `dist/`, from `src/` and from `core/`, where `cargo xtask` leaves the core.
import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const options = {
  absWorkingDir: here('.'),
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  // The names of private members, which begin so, are short in what a page loads: they are a fortieth of it.
  mangleProps: /^_[a-z]/,
  sourcemap: true,
};

rmSync(here('dist'), { recursive: true, force: true });
// Each stands alone: who does not import the store or the tabs does not load them.
await build({ ...options, entryPoints: { index: 'src/index.ts', store: 'src/store/index.ts', tabs: 'src/tabs/index.ts' } });
// Hooks run in the browser; a server component that imports them is told so.
await build({ ...options, entryPoints: { react: 'src/react/index.ts' }, external: ['react'], banner: { js: "'use client';" } });
execFileSync('tsc', ['-p', here('tsconfig.types.json')], { stdio: 'inherit' });
copyFileSync(here('core/core_bg.wasm'), here('dist/core_bg.wasm'));
