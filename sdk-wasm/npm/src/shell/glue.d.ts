/** What `build.mjs` makes of wasm-bindgen's `core/core.js`: the same bindings, one independent copy for each call. */
import type { CoreClass } from './core.ts';

export function instantiate(module: WebAssembly.Module): CoreClass;
