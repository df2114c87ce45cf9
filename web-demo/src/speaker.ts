import type { TokenFunction } from '@anabranch/client';

/** Whom the newest token speaks for: answers to commands come to topics of that name. */
export class Speaker {
  subject: string | undefined;

  /** The same tokens, looked at on their way. */
  listenTo(tokens: TokenFunction): TokenFunction {
    return async (why, options) => {
      const token = await tokens(why, options);
      this.subject = subjectOf(token);
      return token;
    };
  }
}

/** The `sub` of a JWT. The gateway judges it; here it is only read. */
function subjectOf(token: string): string | undefined {
  try {
    const claims = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const { sub } = JSON.parse(atob(claims)) as { sub?: unknown };
    return typeof sub === 'string' ? sub : undefined;
  } catch {
    return undefined;
  }
}
