// The conversations of this browser: search, open, rename, delete.

import {contentOf} from './answer.js';
import {iconButton, make} from './dom.js';

export function titleOf(conversation) {
  return conversation.title || 'New chat';
}

export class ConversationList {
  // `actions`: open(conversation), rename(conversation, title), remove(conversation).
  constructor(actions) {
    this.actions = actions;
    this.element = document.getElementById('conversations');
    this.search = document.getElementById('search');
    this.search.addEventListener('input', () => this.draw());
    this.search.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.element.querySelector('.open')?.click();
    });
  }

  // `isRunning(conversation)`: whether an answer of it is being written.
  show(conversations, current, isRunning) {
    this.conversations = conversations;
    this.current = current;
    this.isRunning = isRunning;
    this.draw();
  }

  draw() {
    const wanted = this.search.value.trim().toLowerCase();
    const found = this.conversations.filter((one) => !wanted || holds(one, wanted));
    const none = wanted ? 'Nothing found.' : 'Nothing here yet.';
    this.element.replaceChildren(...found.map((one) => this.row(one)));
    if (found.length === 0) this.element.append(make('li', {class: 'quiet'}, none));
  }

  row(conversation) {
    const current = conversation === this.current;
    const open = make(
        'button', {
          type: 'button',
          class: 'open',
          'aria-current': current ? 'true' : null,
          title: titleOf(conversation),
          onclick: () => this.actions.open(conversation),
        },
        titleOf(conversation));
    const row = make(
        'li', {class: this.isRunning(conversation) ? 'running' : null}, open,
        iconButton('edit', `Rename ${titleOf(conversation)}`, () => this.rename(row, conversation)),
        iconButton('bin', `Delete ${titleOf(conversation)}`, () => this.actions.remove(conversation)));
    return row;
  }

  rename(row, conversation) {
    const field = make('input', {type: 'text', 'aria-label': 'Name of the conversation', maxlength: '200'});
    field.value = titleOf(conversation);
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      if (keep && field.value.trim()) this.actions.rename(conversation, field.value.trim());
      this.draw();
    };
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') end(true);
      if (event.key === 'Escape') end(false);
      event.stopPropagation();
    });
    field.addEventListener('blur', () => end(true));
    row.replaceChildren(field);
    field.select();
  }
}

function holds(conversation, wanted) {
  return titleOf(conversation).toLowerCase().includes(wanted) ||
      conversation.tree.messages.some((message) => contentOf(message).toLowerCase().includes(wanted));
}
