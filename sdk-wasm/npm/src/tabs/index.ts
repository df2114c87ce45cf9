/** `@anabranch/client/tabs`: one connection for all tabs of a user. Loaded by those who import it, and by nobody else. */
import type { Group, GroupNeeds, Tabs } from '../group.ts';
import { Member } from './member.ts';

export type { Group, GroupNeeds, Role, Tabs } from '../group.ts';

/** All tabs of this browser with the same gateway and user share one connection and one store. Where a browser lacks what it takes, each has its own. */
export function sharedTabs(): Tabs {
  return (needs) => {
    const locks = typeof navigator === 'undefined' ? undefined : navigator.locks;
    return locks && typeof BroadcastChannel === 'function' ? new Member(needs, locks) : alone(needs);
  };
}

function alone(needs: GroupNeeds): Group {
  return {
    role: 'alone',
    exclusive: false,
    join: () => needs.lead(),
    leave: () => {},
    serve: (local) => local,
    route: (effect) => effect,
    stored: () => {},
    token: () => Promise.resolve(undefined),
    logout: () => Promise.resolve(false),
  };
}
