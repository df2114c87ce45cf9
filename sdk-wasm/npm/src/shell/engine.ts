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
  private core: Core | undefined;
  private readonly queue: [Effect, number][] = [];
  private readonly afterwards: (() => void)[] = [];
  private draining = false;
  private trap: { cause: unknown } | undefined;
  private traps: number[] = [];

  constructor(
    private readonly create: CoreClassFactory,
    private readonly clientId: string,
    private readonly sdk: string,
    private readonly environment: Environment,
    private readonly listener: EngineListener,
  ) {
    this.core = this.instance();
  }

  /** Makes one call to the core. After the engine has failed or stopped it does nothing. */
  readonly call: Call = (name, ...args) => {
    if (!this.core || this.trap) return;
    const frame = name === 'received' ? String(args[1]) : '';
    try {
      const { [name]: step } = this.core as unknown as Record<string, (...args: unknown[]) => string | undefined>;
      const effects = JSON.parse(step?.call(this.core, ...args, this.environment.now(), this.environment.wall()) ?? '[]') as Effect[];
      for (const effect of effects) this.queue.push([effect, frame.length]);
    } catch (cause) {
      this.trap = { cause };
    }
    this.drain();
  };

  /** Carries out an effect that is not the core's, behind those that are under way. */
  tell(effect: Effect): void {
    this.queue.push([effect, 0]);
    this.drain();
  }

  /** Reads something from the core, which changes nothing. */
  read<T>(get: (core: Core) => T): T | undefined {
    if (!this.core || this.trap) return undefined;
    try {
      return get(this.core);
    } catch (cause) {
      this.trap = { cause };
      this.drain();
      return undefined;
    }
  }

  /** Runs once no call and no effect is under way: now, or when they end. */
  whenIdle(run: () => void): void {
    if (this.draining) this.afterwards.push(run);
    else run();
  }

  stop(): void {
    this.core?.free();
    this.core = undefined;
    this.queue.length = 0;
  }

  private drain(): void {
    if (this.draining) return;
    this.draining = true;
    for (;;) {
      for (let next = this.queue.shift(); next; next = this.queue.shift()) this.listener.effect(...next);
      if (!this.trap) break;
      this.replace(this.trap.cause);
    }
    this.draining = false;
    for (const run of this.afterwards.splice(0)) run();
  }

  /** A trapped instance is dead: its memory may be half changed. It is dropped, not freed. */
  private replace(cause: unknown): void {
    this.trap = undefined;
    this.core = undefined;
    const now = this.environment.now();
    this.traps = [...this.traps.filter((at) => now - at < TRAPS_WITHIN_MS), now];
    if (this.traps.length >= TRAPS) return this.listener.failed(cause);
    this.core = this.instance();
    this.listener.restarted(cause);
  }

  private instance(): Core {
    const { random32 } = this.environment;
    return new (this.create())(this.clientId, this.sdk, random32(), random32());
  }
}
