// Text files that become part of a message.

import {icon, iconButton, make} from './dom.js';
import {bytes} from './units.js';

const kMostBytes = 16 << 20;

// {name, size, text}. Throws an Error that says what was wrong.
export async function readFile(file) {
  if (file.size > kMostBytes) {
    throw new Error(`${file.name}: expected at most ${bytes(kMostBytes)}, found ${bytes(file.size)}`);
  }
  let text;
  try {
    text = new TextDecoder('utf-8', {fatal: true}).decode(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name}: expected text in UTF-8`);
  }
  if (text.includes('\0')) throw new Error(`${file.name}: expected text, found zero bytes`);
  return {name: file.name, size: file.size, text};
}

// The names and sizes of files. With `remove`, each has a button that takes it away.
export function fileList(files, remove) {
  return make(
      'ul', {class: 'files', 'aria-label': 'Files'},
      ...files.map(
          (file) => make(
              'li', {}, icon('file'), make('span', {class: 'name'}, file.name),
              make('span', {class: 'size'}, bytes(file.size)),
              remove ? iconButton('close', `Remove ${file.name}`, () => remove(file)) : null)));
}
