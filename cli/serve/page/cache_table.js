// What each layer holds, in numbers.

import {make} from './dom.js';
import {count, percent} from './units.js';

const kColumns = ['Layer', 'Entries', 'Of the text', 'Oldest', 'Newest'];

export function cacheTable(held, label) {
  const row = (cells, tag) => make(
      'tr', {},
      ...cells.map(
          (cell, i) => make(i === 0 ? 'th' : tag, {scope: tag === 'th' ? 'col' : (i === 0 ? 'row' : null)}, cell)));
  const position = (value) => value === undefined ? '–' : count(value);
  const rows = held.layers.map(
      (layer) => row(
          [
            String(layer.layer),
            count(layer.n_entries),
            percent(layer.n_entries, held.n_tokens),
            position(layer.oldest),
            position(layer.newest),
          ],
          'td'));
  return make(
      'div', {class: 'table', tabindex: '0', role: 'group', 'aria-label': label},
      make(
          'table', {}, make('caption', {class: 'unseen'}, label), make('thead', {}, row(kColumns, 'th')),
          make('tbody', {}, ...rows)));
}
