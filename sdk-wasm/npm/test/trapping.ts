import { readFileSync } from 'node:fs';
import { instantiate } from '../src/shell/instantiate.ts';
import type { CoreClass } from '../src/shell/core.ts';

const module = new WebAssembly.Module(readFileSync(new URL('../core/core_bg.wasm', import.meta.url)));

/** The real core, but a frame that contains `trap` makes it trap. */
export function trapping(): CoreClass {
  const Core = instantiate(module);
  return class extends Core {
    override received(attempt: number, text: string, now: number, wall: number): string {
      if (text.includes('"trap"')) throw new WebAssembly.RuntimeError('unreachable');
      return super.received(attempt, text, now, wall);
    }
  };
}
