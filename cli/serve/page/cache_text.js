// The text of a conversation, each token the fainter the fewer layers still hold it. In pieces, of which the browser
// lays out only those that can be seen.

import {make} from './dom.js';
import {kShades, runsOf} from './held.js';

// Tokens of a piece. It ends with a line, so that a piece for itself looks as it does in the text.
const kFewest = 300, kMost = 1500;

export class CacheText {
  constructor(label) {
    this.text = make('div', {class: 'held-text', tabindex: '0', role: 'group', 'aria-label': label});
    const shades = Array.from({length: kShades + 1}, (_, shade) => make('span', {class: `held-${shade}`}, '\u2002'));
    this.element = make(
        'div', {}, this.text,
        make('p', {class: 'hint legend', 'aria-hidden': 'true'}, 'held by no layer ', ...shades, ' by all'));
  }

  show(held) {
    const pieces = [];
    for (let from = 0, to = 0; from < held.n_tokens; from = to) {
      to = Math.min(held.n_tokens, from + kFewest);
      while (to < held.n_tokens && to < from + kMost && !held.tokens[to - 1]?.endsWith('\n')) ++to;
      const runs = runsOf(held, from, to);
      pieces.push(
          make('span', {class: 'piece'}, ...runs.map(({shade, text}) => make('span', {class: `held-${shade}`}, text))));
    }
    this.text.replaceChildren(...pieces);
  }
}
