type Attributes = Record<string, string | number | boolean | EventListener | undefined>;

/** Makes an element: `el('button', { class: 'primary', onclick: run }, 'Apply')`. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/** Sets an element's text, and touches the page only where it differs. */
export function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A titled part of the page. */
export function panel(title: string, ...children: (Node | string)[]): HTMLElement {
  const id = `panel-${title.toLowerCase().replaceAll(/\W+/g, '-')}`;
  return el('section', { class: 'panel', 'aria-labelledby': id }, el('h2', { id }, title), ...children);
}
