// What the cache holds of the conversation that is shown, and of another beside it.

import {get} from './api.js';
import {CachePicture} from './cache_picture.js';
import {cacheTable} from './cache_table.js';
import {CacheText} from './cache_text.js';
import {titleOf} from './conversation_list.js';
import {make} from './dom.js';
import {heldOf} from './held.js';
import {memoryView} from './memory_view.js';
import {count} from './units.js';

const kGone = 404, kBusy = 409;
const kAgainMs = 1000;

export class CachePanel {
  constructor() {
    this.element = document.getElementById('cache');
    this.body = document.getElementById('cache-body');
    this.memory = document.getElementById('memory');
    this.other = document.getElementById('compare');
    this.other.addEventListener('change', () => this.refresh());
    document.getElementById('cache-refresh').addEventListener('click', () => this.refresh());
    this.columns = [];
    this.conversations = [];
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle(open) {
    this.element.hidden = !open;
    document.body.classList.toggle('with-cache', open);
    document.getElementById('cache-toggle').setAttribute('aria-expanded', String(open));
    document.getElementById(open ? 'cache-close' : 'cache-toggle').focus();
    if (open) this.refresh();
  }

  // The conversation that is shown, of all.
  show(current, conversations) {
    const changed = this.current !== current;
    this.current = current;
    this.conversations = conversations;
    const chosen = this.other.value;
    const others = conversations.filter((one) => one !== current && one.server_id);
    this.other.replaceChildren(
        make('option', {value: ''}, 'nothing'), ...others.map((one) => make('option', {value: one.id}, titleOf(one))));
    this.other.value = others.some((one) => one.id === chosen) ? chosen : '';
    if (changed && this.isOpen) this.refresh();
  }

  async refresh() {
    if (!this.isOpen || !this.current) return;
    const other = this.conversations.find((one) => one.id === this.other.value);
    const wanted = [this.current, ...(other ? [other] : [])];
    while (this.columns.length > wanted.length) this.columns.pop().element.remove();
    while (this.columns.length < wanted.length) {
      const column = new CacheColumn();
      this.columns.push(column);
      this.body.append(column.element);
    }
    this.element.classList.toggle('compares', wanted.length > 1);
    await Promise.all(
        [this.showMemory(), ...wanted.map((one, i) => this.columns[i].load(one, () => this.loadSoon(i, one)))]);
  }

  // One column alone: the server reads the other's cache for each time.
  loadSoon(column, conversation) {
    setTimeout(() => {
      const shown = this.columns[column];
      if (this.isOpen && shown?.wanted === conversation) shown.load(conversation, () => this.loadSoon(column, conversation));
    }, kAgainMs);
  }

  async showMemory() {
    try {
      const [sessions, props] = await Promise.all([get('v1/sessions'), get('props')]);
      const names =
          new Map(this.conversations.filter((one) => one.server_id).map((one) => [one.server_id, titleOf(one)]));
      this.memory.replaceChildren(
          memoryView(sessions.data, props.lacake.kv_reserved_bytes, names, this.current.server_id));
    } catch (error) {
      this.memory.replaceChildren(make('p', {class: 'error'}, error.message));
    }
  }
}

// One conversation's cache.
class CacheColumn {
  constructor() {
    this.title = make('h3', {});
    this.line = make('p', {class: 'quiet'});
    this.picture = new CachePicture('What the cache holds');
    this.text = new CacheText('The text, dimmed by how many layers hold it');
    this.table = make('div', {});
    this.drawings = make(
        'div', {}, this.picture.element, make('h4', {}, 'Text'), this.text.element,
        make('details', {}, make('summary', {}, 'Layer by layer'), this.table));
    this.element = make('section', {class: 'cache-column'}, this.title, this.line, this.drawings);
  }

  // `again`: asks once more, while an answer is being written.
  async load(conversation, again) {
    this.wanted = conversation;
    this.title.textContent = titleOf(conversation);
    if (!conversation.server_id) return this.say('Nothing is held yet: the first answer brings it.');
    let cache;
    try {
      cache = await get(`v1/sessions/${encodeURIComponent(conversation.server_id)}/cache`);
    } catch (error) {
      if (this.wanted !== conversation) return;
      if (error.status === kBusy) again();
      return this.say(
          {
            [kBusy]: 'An answer is being written. When it is done, the cache is shown.',
            [kGone]: 'The server holds nothing of this conversation any more. The next message brings it back.',
          }[error.status] ??
          error.message);
    }
    if (this.wanted !== conversation) return;
    this.drawings.hidden = false;
    const held = heldOf(cache);
    const n_entries = held.layers.reduce((sum, layer) => sum + layer.n_entries, 0);
    this.line.textContent = `${held.policy} · ${count(held.n_tokens)} tokens · ${count(n_entries)} of ` +
        `${count(held.n_tokens * held.layers.length)} entries held`;
    this.picture.show(held);
    this.text.show(held);
    this.table.replaceChildren(cacheTable(held, `What each layer holds of ${titleOf(conversation)}`));
  }

  say(line) {
    this.line.textContent = line;
    this.drawings.hidden = true;
  }
}
