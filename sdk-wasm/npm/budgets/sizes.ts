/** What a browser loads before the first message, compressed as servers do. Run alone: prints it, and fails over a gate. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { head, judge, KIB, type Row, show } from './table.ts';

const file = (name: string): Buffer => readFileSync(fileURLToPath(new URL(`../dist/${name}`, import.meta.url)));
const gzip = (name: string): number => gzipSync(file(name), { level: 9 }).length / KIB;
const brotli = (name: string): number =>
  brotliCompressSync(file(name), { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length / KIB;

export function sizes(): Row[] {
  const unit = 'KiB';
  return [
    { what: 'core wasm, gzip', figure: gzip('core_bg.wasm'), unit, target: 40, gate: 55 },
    { what: 'core wasm, brotli', figure: brotli('core_bg.wasm'), unit, target: 34, gate: 47 },
    { what: 'shell, gzip', figure: gzip('index.js'), unit, target: 10, gate: 14 },
    { what: 'first load, gzip', figure: gzip('core_bg.wasm') + gzip('index.js'), unit, target: 60, gate: 75 },
    { what: 'the hooks, gzip, if imported', figure: gzip('react.js'), unit, target: 1.5, gate: 2.5 },
    { what: 'the store, gzip, if imported', figure: gzip('store.js'), unit },
    { what: 'the tabs, gzip, if imported', figure: gzip('tabs.js'), unit },
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const rows = sizes();
  head();
  rows.forEach(show);
  judge(rows);
}
