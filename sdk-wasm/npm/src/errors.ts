/** An error with what a program needs (`code`, `retryable`) and what a person needs (`message`, `hint`). */
export class AnabranchError extends Error {
  override readonly name = 'AnabranchError';

  constructor(
    /** A number of docs/PROTOCOL.md (4100 to 4599) when the gateway said so; a word when it arose in this page. */
    readonly code: number | string,
    message: string,
    /** Whether the same call may work later. */
    readonly retryable: boolean,
    readonly hint: string = hintFor(code),
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What to do about a code of the gateway: its range says it, also for a code that this version has never seen. */
export function hintFor(code: number | string): string {
  const range = typeof code === 'number' ? Math.floor(code / 100) : 0;
  switch (range) {
    case 42:
      return 'Get a fresh token; the client asks your token function by itself.';
    case 43:
      return 'The log has another history now. Forget what you hold and go on from what follows.';
    case 44:
      return 'This item will never work as it is: change the topic, the filter, the message or the grant.';
    case 45:
      return 'This client cannot talk to this gateway: check the url, the page\'s origin and the versions.';
    default:
      return 'Try again later; the client does so by itself.';
  }
}
