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
  private busy = false;
  private over = false;
  private failures = 0;
  private stopTimer: (() => void) | undefined;

  constructor(
    private readonly environment: Environment,
    private readonly source: WasmSource | undefined,
    private readonly listener: LoaderListener,
  ) {}

  /** Tries now, unless a try is under way or it is loaded. */
  async load(): Promise<void> {
    if (this.busy || this.over) return;
    this.busy = true;
    this.stopTimer?.();
    try {
      const create = await this.environment.load(this.source);
      if (this.over) return;
      this.over = true;
      this.listener.loaded(create);
    } catch (cause) {
      if (!this.over) this.missed(cause);
    } finally {
      this.busy = false;
    }
  }

  stop(): void {
    this.over = true;
    this.stopTimer?.();
  }

  private missed(cause: unknown): void {
    if (cause instanceof WebAssembly.CompileError || cause instanceof WebAssembly.LinkError) {
      this.over = true;
      return this.listener.failed(cause);
    }
    const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.failures++);
    const delay = most * (0.5 + this.environment.random32() / 2 ** 33);
    this.stopTimer = this.environment.setTimer(() => void this.load(), delay);
    this.listener.later(cause, this.failures, delay);
  }
}
