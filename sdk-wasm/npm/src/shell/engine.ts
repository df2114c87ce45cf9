import type { Call, Core, Effect } from './core.ts';
import type { CoreClassFactory, Environment } from './environment.ts';

/** A trap so often within this time means that starting again does not help. */
const TRAPS = 3;
const TRAPS_WITHIN_MS = 60_000;

export interface EngineListener {
  /** Carry out one effect. `bytes` is the size of the frame that it came from. */
  effect(effect: Effect, bytes: number): void;
  /** The core trapped and a new one has taken its place: tell it everything again. */
  restarted(cause: unknown): void;
  /** The core trapped too often. */
  failed(cause: unknown): void;
}

/**
 * Runs the core: one call at a time, and the effects of a call before the next call's. App code runs as part of an effect,
 * when the core has long returned, so a handler may call the client again: what that causes waits its turn.
 */
export class Engine {
  private _core: Core | undefined;
  private readonly _queue: [Effect, number][] = [];
  private readonly _afterwards: (() => void)[] = [];
  private _draining = false;
  private _trap: { cause: unknown } | undefined;
  private _traps: number[] = [];

  constructor(
    private readonly _create: CoreClassFactory,
    private readonly _clientId: string,
    private readonly _sdk: string,
    private readonly _environment: Environment,
    private readonly _listener: EngineListener,
  ) {
    this._core = this._instance();
  }

  /** Makes one call to the core. After the engine has failed or stopped it does nothing. */
  readonly call: Call = (name, ...args) => {
    if (!this._core || this._trap) return;
    const frame = name === 'received' ? String(args[1]) : '';
    try {
      const { [name]: step } = this._core as unknown as Record<string, (...args: unknown[]) => string | undefined>;
      const effects = JSON.parse(step?.call(this._core, ...args, this._environment.now(), this._environment.wall()) ?? '[]') as Effect[];
      for (const effect of effects) this._queue.push([effect, frame.length]);
    } catch (cause) {
      this._trap = { cause };
    }
    this._drain();
  };

  /** Carries out an effect that is not the core's, behind those that are under way. */
  tell(effect: Effect): void {
    this._queue.push([effect, 0]);
    this._drain();
  }

  /** Reads something from the core, which changes nothing. */
  read<T>(get: (core: Core) => T): T | undefined {
    if (!this._core || this._trap) return undefined;
    try {
      return get(this._core);
    } catch (cause) {
      this._trap = { cause };
      this._drain();
      return undefined;
    }
  }

  /** Runs once no call and no effect is under way: now, or when they end. */
  whenIdle(run: () => void): void {
    if (this._draining) this._afterwards.push(run);
    else run();
  }

  stop(): void {
    this._core?.free();
    this._core = undefined;
    this._queue.length = 0;
  }

  private _drain(): void {
    if (this._draining) return;
    this._draining = true;
    for (;;) {
      for (let next = this._queue.shift(); next; next = this._queue.shift()) this._listener.effect(...next);
      if (!this._trap) break;
      this._replace(this._trap.cause);
    }
    this._draining = false;
    for (const run of this._afterwards.splice(0)) run();
  }

  /** A trapped instance is dead: its memory may be half changed. It is dropped, not freed. */
  private _replace(cause: unknown): void {
    this._trap = undefined;
    this._core = undefined;
    const now = this._environment.now();
    this._traps = [...this._traps.filter((at) => now - at < TRAPS_WITHIN_MS), now];
    if (this._traps.length >= TRAPS) return this._listener.failed(cause);
    this._core = this._instance();
    this._listener.restarted(cause);
  }

  private _instance(): Core {
    const { random32 } = this._environment;
    return new (this._create())(this._clientId, this._sdk, random32(), random32());
  }
}
