/** What happens to a page that a connection should know of. */
export interface PageListener {
  /** Something suggests that time has passed or the network has changed: look whether the connection is alive. */
  wake(): void;
  /** Whether anybody can see the page. */
  hide(hidden: boolean): void;
  /** The page is about to stop running, maybe for good: write down what must survive. */
  flush(): void;
  /** The page stops and starts, for this reason. */
  pause(reason: string): void;
  resume(reason: string): void;
}

/**
 * Listens to the page's life. No one event is reliable in every browser after every kind of sleep, so all of them wake; a
 * needless wake costs one probe. Returns how to stop.
 */
export function listenToPage(listener: PageListener): () => void {
  if (typeof addEventListener !== 'function') return () => {};
  const stop = new AbortController();
  const on = (target: EventTarget, event: string, run: () => void): void =>
    target.addEventListener(event, run, { signal: stop.signal });

  on(globalThis, 'online', listener.wake);
  on(globalThis, 'focus', listener.wake);
  on(globalThis, 'pagehide', () => {
    listener.flush();
    listener.pause('page hidden for good');
  });
  on(globalThis, 'pageshow', () => {
    listener.resume('page hidden for good');
    listener.wake();
  });
  if (typeof document === 'object') {
    const look = (): void => listener.hide(document.visibilityState === 'hidden');
    look();
    on(document, 'visibilitychange', () => {
      look();
      if (document.visibilityState === 'visible') listener.wake();
      else listener.flush();
    });
    on(document, 'freeze', () => {
      listener.flush();
      listener.pause('page frozen');
    });
    on(document, 'resume', () => {
      listener.resume('page frozen');
      listener.wake();
    });
  }
  return () => stop.abort();
}
