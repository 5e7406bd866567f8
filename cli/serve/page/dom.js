// Elements made without HTML in strings: whatever a text holds, it stays letters.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const kSvg = 'http://www.w3.org/2000/svg';

// Strokes on a field of 16 by 16.
const kPaths = {
  add: 'M8 3v10M3 8h10',
  bin: 'M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.5 9h6l.5-9',
  cache: 'M2.5 3.5h11M2.5 8h7M2.5 12.5h4M12 8h1.5M9 12.5h1',
  close: 'M4 4l8 8M12 4l-8 8',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  edit: 'M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3zM9 4.7L11.3 7',
  file: 'M4 2.5h5l3 3v8H4zM9 2.5v3h3',
  left: 'M10 3.5L5.5 8l4.5 4.5',
  list: 'M3 4h10M3 8h10M3 12h10',
  retry: 'M12.8 6.5A5 5 0 1 0 13 9M13 3v3.5H9.5',
  right: 'M6 3.5L10.5 8 6 12.5',
  send: 'M8 13V3.5M4 7l4-4 4 4',
  settings: 'M2.5 5h6M12 5h1.5M2.5 11H4M7.5 11h6M10.3 3.3v3.4M5.8 9.3v3.4',
  stop: 'M4.5 4.5h7v7h-7z',
};

export function icon(name) {
  const svg = document.createElementNS(kSvg, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(kSvg, 'path');
  path.setAttribute('d', kPaths[name]);
  svg.append(path);
  return svg;
}

// A button that is an icon; its name is there for whoever can't see it, or points at it.
export function iconButton(name, label, onclick, properties = {}) {
  return make(
      'button', {type: 'button', class: 'icon', 'aria-label': label, title: label, onclick, ...properties}, icon(name));
}

// A button for everything that can be copied; says that it has worked. `text` is asked for when it is pressed.
export function copyButton(label, text) {
  const button = iconButton('copy', label, async () => {
    const copied = await copy(text());
    say(copied ? 'Copied' : 'This browser does not allow copying');
    button.classList.toggle('done', copied);
    setTimeout(() => button.classList.remove('done'), 1200);
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not allowed: the old way may be.
    }
  }
  // Pages that came over plain HTTP from another machine have no clipboard, only this.
  const field = make('textarea', {class: 'unseen', 'aria-hidden': 'true'});
  const focused = document.activeElement;
  (document.querySelector('dialog[open]') ?? document.body).append(field);
  field.value = text;
  field.select();
  const copied = document.execCommand('copy');
  field.remove();
  focused?.focus();
  return copied;
}

// For screen readers, who do not see what has changed.
export function say(text) {
  document.getElementById('status').textContent = text;
}
