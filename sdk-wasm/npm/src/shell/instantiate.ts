import type { Core, CoreClass } from './core.ts';

/** What the core exports, as wasm-bindgen lays it out: a text goes in as a place and a length, and comes out as both, to be freed. */
interface Exports {
  readonly memory: WebAssembly.Memory;
  __wbindgen_start(): void;
  __wbindgen_malloc(length: number, align: number): number;
  __wbindgen_free(at: number, length: number, align: number): void;
  __wbg_core_free(core: number, unused: number): void;
}
type Method = (...args: (number | boolean)[]) => undefined | number | [at: number, length: number];

/** Safari's decoder fails for good after 2 GiB. */
const DECODER_BYTES = 2 ** 30;

/**
 * An instance of the core's own, with a memory of its own, so that one that has trapped can be dropped. wasm-bindgen would write a method for
 * each of the core's; all of them do the same, and together they weigh more than the largest file here.
 */
export function instantiate(module: WebAssembly.Module): CoreClass {
  const encoder = new TextEncoder();
  let decoder = new TextDecoder();
  let decoded = 0;

  const read = (at: number, length: number): string => {
    if ((decoded += length) > DECODER_BYTES) {
      decoder = new TextDecoder();
      decoded = length;
    }
    return decoder.decode(new Uint8Array(wasm.memory.buffer, at >>> 0, length));
  };
  const pass = (arg: unknown): (number | boolean)[] => {
    if (typeof arg !== 'string') return [arg as number | boolean];
    const bytes = encoder.encode(arg);
    const at = wasm.__wbindgen_malloc(bytes.length, 1) >>> 0;
    new Uint8Array(wasm.memory.buffer, at).set(bytes);
    return [at, bytes.length];
  };
  const call = (method: Method, args: readonly unknown[]): unknown => {
    const answer = method(...args.flatMap(pass));
    if (typeof answer !== 'object') return answer;
    try {
      return read(...answer);
    } finally {
      wasm.__wbindgen_free(...answer, 1);
    }
  };

  // One of them throws an error with this text. The other makes room for JavaScript's objects, of which the core knows none.
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = (at?: number, length?: number): void => {
      if (at !== undefined && length !== undefined) throw new Error(read(at, length));
    };
  }
  const exports = new WebAssembly.Instance(module, imports).exports;
  const wasm = exports as unknown as Exports;
  wasm.__wbindgen_start();

  const made = class {
    readonly core: unknown;
    constructor(...args: unknown[]) {
      this.core = call(exports['core_new'] as Method, args);
    }
    free(): void {
      wasm.__wbg_core_free(this.core as number, 0);
    }
  };
  for (const [name, method] of Object.entries(exports)) {
    if (!name.startsWith('core_')) continue;
    Object.defineProperty(made.prototype, name.slice(5), {
      value(this: { core: unknown }, ...args: unknown[]): unknown {
        return call(method as Method, [this.core, ...args]);
      },
    });
  }
  return made as unknown as new (...args: unknown[]) => Core;
}
