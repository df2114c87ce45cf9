'use client';
// Imported and rendered on the server first, where nothing connects; then in the browser.
import { createClient } from '@anabranch/client';
import { AnabranchProvider, useTopic } from '@anabranch/client/react';
import { indexedDb } from '@anabranch/client/store';
import { sharedTabs } from '@anabranch/client/tabs';
import { useState } from 'react';

function Latest() {
  const { items, status } = useTopic('log/#');
  const newest = items.at(-1);
  return <output>{newest ? `message ${newest.payload.n}` : status}</output>;
}

export default function Page() {
  const [client] = useState(() => {
    const ask = new URLSearchParams(typeof location === 'undefined' ? '' : location.search);
    return createClient({ url: ask.get('url') ?? '', token: () => ask.get('token') ?? '', user: 'sample', store: indexedDb(), tabs: sharedTabs() });
  });
  return (
    <AnabranchProvider client={client}>
      <Latest />
    </AnabranchProvider>
  );
}
