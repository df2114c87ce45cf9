import { Commands } from './commands.ts';
import { Delivery } from './delivery.ts';
import { AnabranchError, closedError } from './errors.ts';
import type { MessageEvent, SubscriptionEvent } from './events.ts';
import type { Storage } from './keeping.ts';
import type { ClientOptions, PublishOptions, Published, QueueOptions, SubscribeOptions } from './options.ts';
import { outboxed, type Outboxed, type Queued } from './outbox.ts';
import { Session } from './session.ts';
import { Shadow } from './shadow.ts';
import type { JsonObject } from './shadow/json.ts';
import type { ConnectionState } from './shell/core.ts';
import { browser, type Environment } from './shell/environment.ts';
import type { Role } from './group.ts';
import type { Question } from './shell/local.ts';
import type { Observable } from './state.ts';
import { cachedMessages } from './streams.ts';
import type { Subscription } from './subscription.ts';

/** One connection to a gateway, opened when the first subscription or publish needs it. Made by `createClient`. */
export class Client implements Disposable {
  /** The connection's state, to read or to watch. */
  readonly state: Observable<ConnectionState>;
  /** Where things are kept, to read or to watch. */
  readonly storage: Observable<Storage>;
  private readonly _session: Session;
  private readonly _shadows = new Map<string, { readonly shadow: Shadow; users: number }>();
  private readonly _errorWatchers = new Set<(error: AnabranchError) => void>();

  /** @internal */
  constructor(
    private readonly _options: ClientOptions,
    private readonly _environment: Environment,
  ) {
    if ((_options.store || _options.tabs) && !_options.user) throw new AnabranchError('no_user', 'A store, or shared tabs, need a user.', false, 'Give createClient whoever the token speaks for: `user`.');
    this._session = new Session(_options, _environment, (error) => this._report(error));
    this.state = this._session.state;
    this.storage = this._session.storage;
  }

  /**
   * Everything that `filter` matches and the token grants, as a stream for `for await`. Leaving the loop, `close()` or the
   * signal end it. A subscription may be read by one loop at a time.
   */
  subscribe<Payload = unknown>(filter: string, options: SubscribeOptions = {}): Subscription<Payload> {
    return this._make<Payload>(filter, options);
  }

  /** The same for a callback. What it throws becomes an error event and stops nothing. Call `close()` to end it. */
  on<Payload = unknown>(
    filter: string,
    callback: (event: SubscriptionEvent<Payload>) => void,
    options: SubscribeOptions = {},
  ): Subscription<Payload> {
    return this._make<Payload>(filter, options, callback);
  }

  /**
   * The shadow of a device: what it reports, what is desired of it, and what is pending. The same object for the same device, until it was closed as often as it was
   * asked for. The gateway's shadow service must be on. `root` is what the platform's topics begin with.
   */
  shadow<T = JsonObject>(device: string, { root = 'iotsphere' }: { readonly root?: string } = {}): Shadow<T> {
    if (!device || /[/+#]/.test(device)) throw new AnabranchError('bad_device', `${JSON.stringify(device)} is not one device.`, false, 'Give one level of a topic.');
    const prefix = `${root}/devices/${device}/shadow/`;
    let held = this._shadows.get(prefix);
    const { wall, random32 } = this._environment;
    if (!held) {
      const release = (): void => {
        if (!held || (held.users -= 1) > 0) return;
        this._shadows.delete(prefix);
        held.shadow.end();
      };
      const shadow = new Shadow<JsonObject>(this, device, prefix, wall, this._uuid, random32(), release);
      held = { shadow, users: 0 };
      this._shadows.set(prefix, held);
    }
    held.users += 1;
    return held.shadow as unknown as Shadow<T>;
  }

  /**
   * Prepares to command devices in the name of `subject`, whom the token speaks for: answers come on topics of its own. `root` is what the platform's topics
   * begin with.
   */
  commands(subject: string, { root = 'iotsphere' }: { readonly root?: string } = {}): Commands {
    const { wall, setTimer } = this._environment;
    const threw = (error: unknown): void => this._session.threw(error, 'a command watcher');
    return new Commands(this, root, subject, wall, setTimer, this._uuid, threw);
  }

  /**
   * Sends one message. Resolves when the log has it, however often the connection is lost meanwhile; rejects with an
   * `AnabranchError` when it will not be stored. Not kept over a reload of the page; but with `queue` it resolves when the client's store has it, and
   * the message is published whenever there is a connection, by the next page too.
   */
  publish(topic: string, payload: unknown, options: QueueOptions): Promise<Queued>;
  publish(topic: string, payload: unknown, options?: PublishOptions): Promise<Published>;
  async publish(topic: string, payload: unknown, options: PublishOptions & Partial<QueueOptions> = {}): Promise<Published | Queued> {
    if (this._session.closed) throw closedError('The client was closed.');
    if (!this._environment.socket) throw new AnabranchError('no_websocket', 'There is no page here to connect from.', false, 'Publish in the browser.');
    const messageId = options.messageId ?? this._uuid();
    const metadata = {
      messageId,
      timestamp: new Date(this._environment.wall()).toISOString(),
      topic,
      source: options.source ?? this._options.clientId ?? 'anabranch-js',
      ...(options.correlationId === undefined ? {} : { correlationId: options.correlationId }),
      messageType: options.messageType ?? 'event',
      version: '1.0',
    };
    // `undefined` has no JSON; a message without a payload carries null.
    const { queue: kept = false, timeToLiveMs, sent, patch } = options;
    const expires = timeToLiveMs === undefined ? undefined : this._environment.wall() + timeToLiveMs;
    const pending = this._session.publish(messageId, JSON.stringify({ metadata, payload: payload ?? null }), { kept, expires, sent, patch });
    if (!kept) return pending.published;
    await pending.stored;
    return { messageId, confirmed: () => pending.published, withdraw: () => this.withdraw(messageId) };
  }

  /** What waits for its confirm, oldest first, and what was refused and is kept. */
  async outbox(): Promise<Outboxed[]> {
    return outboxed(await this._ask(['outbox']));
  }

  /** Takes a message out of the outbox that never was sent, or is wedged. `false` if there is none. */
  async withdraw(messageId: string): Promise<boolean> {
    return (await this._ask(['withdraw', messageId])) === 'true';
  }

  /** Tries a wedged message again, under the same id. `false` if there is none. */
  async retry(messageId: string): Promise<boolean> {
    return (await this._ask(['retry', messageId])) === 'true';
  }

  /** Waits until the store has everything. Rejects if it has failed. */
  async flush(): Promise<void> {
    const reason = await this._ask(['flush']);
    if (reason !== '') throw new AnabranchError('storage', `Not everything is kept: ${reason}`, false);
  }

  /** Forgets where the app stood with what it kept under this name. */
  forget(name: string): void {
    this._session.place(name);
  }

  /** Ends the client, in all tabs that share it, and forgets all that it kept of this user: cursors, cached messages, and what was queued and not published. */
  async logout(): Promise<void> {
    await this._session.logout();
  }

  /** What this tab is among those that share the connection; `alone` without `tabs`. */
  get role(): Role {
    return this._session.role;
  }

  /** Whether there is anything to ask. */
  private get _can(): boolean {
    return !this._session.closed && this._environment.socket !== undefined;
  }

  private async _ask(question: Question): Promise<string> {
    return this._can ? this._session.ask(question) : question[0] === 'flush' ? '' : '[]';
  }

  /** The newest messages in memory that `filter` matches, oldest first; of an earlier page too, where there is a store. Never asks the network. */
  async cached<Payload = unknown>(filter: string, { limit = 100 }: { readonly limit?: number } = {}): Promise<MessageEvent<Payload>[]> {
    return cachedMessages(await this._ask(['cached', filter, limit])) as MessageEvent<Payload>[];
  }

  /**
   * Connects, and stays connected without subscriptions. While a connection is being waited for it cuts the wait short, and
   * it tries again after `needs_auth` and after `closed` by the gateway.
   */
  connect(): void {
    this._session.use(this);
    this._session.reconnect();
  }

  /** Disconnects for a reason of the app's own. As long as one reason stands, nothing connects. */
  pause(reason: string): void {
    this._session.pause(reason);
  }

  /** Takes one reason back. */
  resume(reason: string): void {
    this._session.unpause(reason);
  }

  /** Called with each error that belongs to no call. Without a watcher they go to the page's `error` event. */
  onError(watch: (error: AnabranchError) => void): () => void {
    this._errorWatchers.add(watch);
    return () => void this._errorWatchers.delete(watch);
  }

  /** Says goodbye, ends every subscription and rejects what was not published. Final. Cursors are kept for the next load. */
  close(): void {
    this._session.close(closedError('The client was closed.'));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private _make<Payload>(
    filter: string,
    options: SubscribeOptions,
    callback?: (event: SubscriptionEvent<Payload>) => void,
  ): Subscription<Payload> {
    const own = options.from === undefined;
    const name = own && this._session.keeps ? (options.keepAs ?? this._session.streams.freeName(filter)) : undefined;
    const cursor = own && name === undefined ? this._session.resume.find(filter) : undefined;
    const start = options.from ?? (cursor === undefined ? undefined : { cursor });
    const delivery = new Delivery(
      filter,
      start,
      options.snapshot,
      this._session,
      callback as ((event: SubscriptionEvent) => void) | undefined,
      options.signal,
      options.bufferBytes,
      options.maxHz,
      name,
    );
    delivery.resumes = cursor !== undefined;
    if (this._session.closed) delivery.end(closedError('The client was closed.'));
    else if (options.signal?.aborted) delivery.close();
    else this._session.subscribe(delivery, options.from === undefined);
    return delivery as unknown as Subscription<Payload>;
  }

  private _report(error: AnabranchError): void {
    if (this._errorWatchers.size === 0) return raise(error);
    for (const watch of [...this._errorWatchers]) {
      try {
        watch(error);
      } catch (thrown) {
        raise(thrown);
      }
    }
  }

  /** A random UUID, also on pages that are not served securely, where `crypto.randomUUID` is absent. */
  private readonly _uuid = (): string => {
    const bytes = new Uint8Array(Uint32Array.from({ length: 4 }, () => this._environment.random32()).buffer);
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  };
}

/** A client for one gateway. Opens nothing yet, touches nothing of the page, and is safe where there is no page. */
export function createClient(options: ClientOptions): Client {
  return new Client(options, browser(options.webSocket));
}

/** Like an exception that nobody catches: seen by the page's own error reporting, and harmless to the code that runs. */
function raise(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else console.error(error);
}
