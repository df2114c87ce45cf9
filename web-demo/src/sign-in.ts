import type { TokenFunction } from '@anabranch/client';
import { el, panel } from './dom.ts';

/** Asks the person for a token, where nothing else gives one out. It stays in this tab's memory. */
export function askForToken(root: HTMLElement): Promise<TokenFunction> {
  return new Promise((resolve) => {
    const input = el('input', { type: 'password', name: 'token', autocomplete: 'off', required: true });
    const submit = (event: Event): void => {
      event.preventDefault();
      const token = input.value.trim();
      resolve(() => Promise.resolve(token));
    };
    const hint = el('p', { class: 'hint' }, 'A token that may read iotsphere/devices/# and write the shadows’ desired part.');
    const form = el(
      'form',
      { class: 'sign-in', onsubmit: submit },
      el('label', {}, 'Token', input),
      hint,
      el('button', { class: 'primary', type: 'submit' }, 'Connect'),
    );
    root.replaceChildren(el('main', { class: 'alone' }, panel('Connect to this gateway', form)));
    input.focus();
  });
}
