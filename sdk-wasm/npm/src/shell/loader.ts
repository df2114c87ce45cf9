import type { WasmSource } from '../options.ts';
import type { CoreClassFactory, Environment } from './environment.ts';

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;

export interface LoaderListener {
  loaded(create: CoreClassFactory): void;
  /** It could not be fetched, and will be tried again: the network may be down, as for the connection itself. */
  later(cause: unknown, attempt: number, retryInMs: number): void;
  /** What was fetched does not run here. */
  failed(cause: unknown): void;
}

/** Loads the core once, with as many attempts as it takes. */
export class Loader {
  private _busy = false;
  private _over = false;
  private _failures = 0;
  private _stopTimer: (() => void) | undefined;

  constructor(
    private readonly _environment: Environment,
    private readonly _source: WasmSource | undefined,
    private readonly _listener: LoaderListener,
  ) {}

  /** Tries now, unless a try is under way or it is loaded. */
  async load(): Promise<void> {
    if (this._busy || this._over) return;
    this._busy = true;
    this._stopTimer?.();
    try {
      const create = await this._environment.load(this._source);
      if (this._over) return;
      this._over = true;
      this._listener.loaded(create);
    } catch (cause) {
      if (!this._over) this._missed(cause);
    } finally {
      this._busy = false;
    }
  }

  stop(): void {
    this._over = true;
    this._stopTimer?.();
  }

  private _missed(cause: unknown): void {
    if (cause instanceof WebAssembly.CompileError || cause instanceof WebAssembly.LinkError) {
      this._over = true;
      return this._listener.failed(cause);
    }
    const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this._failures++);
    const delay = most * (0.5 + this._environment.random32() / 2 ** 33);
    this._stopTimer = this._environment.setTimer(() => void this.load(), delay);
    this._listener.later(cause, this._failures, delay);
  }
}
