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

/** What to do about a code of the gateway, by its first two digits: so also about one that this version has never seen. */
const HINTS: Readonly<Record<number, string>> = {
  42: 'Get a fresh token; the client asks your token function by itself.',
  43: 'The log has another history now. Forget what you hold and go on from what follows.',
  44: 'This item will never work as it is: change the topic, the filter, the message or the grant.',
  45: "This client cannot talk to this gateway: check the url, the page's origin and the versions.",
};

export function hintFor(code: number | string): string {
  return HINTS[Math.floor(Number(code) / 100)] ?? 'Try again later; the client does so by itself.';
}

/** The client has ended, for this reason. */
export function closedError(message: string): AnabranchError {
  return new AnabranchError('closed', message, false, 'Make a new client with createClient.');
}
