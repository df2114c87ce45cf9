/** Every TypeScript snippet of the guides is compiled against this package, each as a module of its own. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const GUIDES = ['../../../docs/SDK.md', '../README.md', '../../../README.md'];

/** What the app around a snippet has. A snippet that makes one of these itself means its own. */
const AROUND = `
declare const client: import('@anabranch/client').Client;
declare const ui: { show(what: string, text: unknown): void };
declare const url: string;
declare const token: import('@anabranch/client').TokenFunction;
declare const TOKEN: string;
declare const topic: string;
declare const payload: unknown;
declare const signal: AbortSignal;
declare const chart: { add(topic: string, payload: unknown): void };
declare function banner(text: string | null): void;
declare function show(stage: string): void;
declare function paint(view: unknown): void;
interface Reading { celsius: number }
interface Fan { fan: { rpm: number; on: boolean } }
`;

interface Snippet {
  readonly where: string;
  readonly language: string;
  readonly lines: readonly string[];
}

function snippets(guide: string, text: string): Snippet[] {
  const found: Snippet[] = [];
  let open: { where: string; language: string; lines: string[] } | undefined;
  text.split('\n').forEach((line, index) => {
    const fence = /^```(\w*)$/.exec(line)?.[1];
    if (open && fence === '') {
      found.push(open);
      open = undefined;
    } else if (open) open.lines.push(line);
    else if (fence !== undefined) open = { where: `${guide}:${index + 2}`, language: fence, lines: [] };
  });
  return found.filter(({ language }) => language === 'ts' || language === 'tsx');
}

/** What tsc says of a folder. */
const compile = (folder: string): Promise<string> =>
  new Promise((resolve) => {
    const tsc = here('../../../node_modules/.bin/tsc');
    execFile(tsc, ['--project', folder, '--pretty', 'false'], { cwd: folder }, (_, stdout, stderr) => resolve(stdout + stderr));
  });

test('what the guides show compiles', async () => {
  const all = (await Promise.all(GUIDES.map(async (guide) => snippets(guide.replace(/^(\.\.\/)+/, ''), await readFile(here(guide), 'utf8'))))).flat();
  assert.ok(all.length >= 20, `${all.length} snippets`);
  // Below the package, so that its dependencies are found.
  const folder = await mkdtemp(here('../.guide-'));
  try {
    const options = {
      extends: '../tsconfig.json',
      compilerOptions: {
        jsx: 'react-jsx',
        noUnusedLocals: false,
        noUnusedParameters: false,
        moduleDetection: 'force',
        paths: {
          '@anabranch/client': ['../src/index.ts'],
          '@anabranch/client/store': ['../src/store/index.ts'],
          '@anabranch/client/tabs': ['../src/tabs/index.ts'],
          '@anabranch/client/react': ['../src/react/index.ts'],
        },
      },
      include: ['*'],
    };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(options));
    await writeFile(join(folder, 'around.d.ts'), `declare global {${AROUND.replace(/declare /g, '')}}\nexport {};\n`);
    await Promise.all(all.map(({ language, lines }, index) => writeFile(join(folder, `${index}.${language}`), `${lines.join('\n')}\n`)));
    const said = (await compile(folder)).trim();
    const told = said.replace(/^(\d+)\.tsx?\((\d+),/gm, (_, index: string, line: string) => `${all[Number(index)]?.where} (its line ${line}), `);
    assert.equal(told, '');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
