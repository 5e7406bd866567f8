// Draws what markdown.js has read. A text that grows is drawn again from the first block that changed.

import {copyButton, make} from './dom.js';
import {blocks, inline} from './markdown.js';

export class MarkdownView {
  constructor() {
    this.element = make('div', {class: 'markdown'});
    this.sources = [];
  }

  show(text) {
    const all = blocks(text);
    let same = 0;
    while (same < all.length && same < this.sources.length && all[same].source === this.sources[same]) ++same;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    this.element.append(...all.slice(same).map(drawn));
    this.sources = all.map((block) => block.source);
  }
}

const kInline = {
  strong: 'strong',
  emphasis: 'em',
  struck: 's'
};

function words(text) {
  const draw = (node) => {
    if (typeof node === 'string') return node;
    if (node.type === 'break') return make('br');
    if (node.type === 'code') return make('code', {}, node.text);
    const inside = node.nodes.map(draw);
    if (node.type !== 'link') return make(kInline[node.type], {}, ...inside);
    return make('a', {href: node.href, target: '_blank', rel: 'noopener noreferrer'}, ...inside);
  };
  return inline(text).map(draw);
}

function drawn(block) {
  switch (block.type) {
    case 'heading':
      // A page has its own headings of the first levels.
      return make(`h${Math.min(block.level + 2, 6)}`, {class: `level-${block.level}`}, ...words(block.text));
    case 'rule':
      return make('hr');
    case 'code':
      return make(
          'figure', {class: 'code'},
          make('figcaption', {}, make('span', {}, block.language), copyButton('Copy code', () => block.text)),
          make('pre', {tabindex: '0'}, make('code', {}, block.text)));
    case 'quote':
      return make('blockquote', {}, ...block.blocks.map(drawn));
    case 'list':
      return make(
          block.numbered ? 'ol' : 'ul', {start: block.start === 1 ? null : block.start},
          ...block.items.map((item) => make('li', {}, ...itemOf(item))));
    case 'table':
      return tableOf(block);
    default:
      return make('p', {}, ...words(block.text));
  }
}

// An item of one paragraph is a line, not a paragraph.
function itemOf(item) {
  return item.flatMap((block, i) => i === 0 && block.type === 'paragraph' ? words(block.text) : [drawn(block)]);
}

function tableOf({head, align, rows}) {
  const row = (cells, tag) => make('tr', {}, ...cells.map((cell, i) => make(tag, {class: align[i]}, ...words(cell))));
  return make(
      'div', {class: 'table', tabindex: '0'},
      make(
          'table', {}, make('thead', {}, row(head, 'th')),
          make('tbody', {}, ...rows.map((cells) => row(cells, 'td')))));
}
