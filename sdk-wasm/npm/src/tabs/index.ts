/** `@anabranch/client/tabs`: one connection for all tabs of a user. Loaded by those who import it, and by nobody else. */
import type { Tabs } from '../group.ts';
import { Member } from './member.ts';

export type { Group, GroupNeeds, Role, Tabs } from '../group.ts';

/** All tabs of this browser with the same gateway and user share one connection and one store. Where a browser lacks what it takes, each has its own. */
export function sharedTabs(): Tabs {
  return (needs) => {
    const locks = typeof navigator === 'undefined' ? undefined : navigator.locks;
    return locks && typeof BroadcastChannel === 'function' ? new Member(needs, locks) : undefined;
  };
}
