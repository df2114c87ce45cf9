import { instantiate } from './instantiate.ts';
import type { WasmSource } from '../options.ts';
import type { CoreClassFactory } from './environment.ts';

let beside: Promise<WebAssembly.Module> | undefined;

/**
 * Fetches and compiles the core, without blocking the page. The file beside this module is compiled once for all clients; a
 * failed fetch is tried again by the next client that needs it.
 */
export async function loadCore(source: WasmSource | undefined): Promise<CoreClassFactory> {
  let module: WebAssembly.Module;
  if (source === undefined) {
    beside ??= compile(new URL('./core_bg.wasm', import.meta.url));
    beside.catch(() => (beside = undefined));
    module = await beside;
  } else {
    module = await compile(source);
  }
  return () => instantiate(module);
}

interface NodeProcess {
  getBuiltinModule?(name: 'node:fs/promises'): { readFile(path: URL): Promise<BufferSource> };
}

/** What a `file:` url holds, on Node: it does not fetch such. Not imported, since bundlers for browsers stumble over that. */
function fileOf(source: string | URL | Response): Promise<BufferSource> | undefined {
  if (source instanceof Response || !String(source).startsWith('file:')) return undefined;
  const { process } = globalThis as { process?: NodeProcess };
  return process?.getBuiltinModule?.('node:fs/promises').readFile(new URL(source));
}

async function compile(source: WasmSource): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  if (typeof source !== 'string' && !(source instanceof URL) && !(source instanceof Response)) {
    return WebAssembly.compile(source);
  }
  const file = fileOf(source);
  if (file) return WebAssembly.compile(await file);
  const response = source instanceof Response ? source : await fetch(source);
  if (!response.ok) throw new Error(`${response.url} answered ${response.status}`);
  // Streaming needs the type application/wasm, which some servers do not send.
  const streaming = response.headers.get('content-type')?.startsWith('application/wasm');
  if (streaming && typeof WebAssembly.compileStreaming === 'function') return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}
