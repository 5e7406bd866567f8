// The messages of the conversation that is shown.

import {MessageView} from './message_view.js';
import {path, siblings} from './tree.js';

export class ChatView {
  constructor(actions) {
    this.actions = actions;
    this.list = document.getElementById('messages');
    this.scroller = document.getElementById('scroller');
    this.empty = document.getElementById('empty');
    this.views = [];
  }

  // `running`: undefined, or the answer that is being written with its progress.
  show(conversation, running) {
    const messages = path(conversation.tree);
    const follows = this.isAtEnd();
    let same = 0;
    while (same < messages.length && same < this.views.length && this.views[same].message === messages[same]) ++same;
    for (const view of this.views.splice(same)) view.element.remove();
    for (const message of messages.slice(same)) {
      const view = new MessageView(message, this.actions);
      this.views.push(view);
      this.list.append(view.element);
    }
    for (const view of this.views) {
      const {message} = view;
      view.update({
        running: running?.message === message,
        busy: Boolean(running),
        progress: running?.progress,
        siblings: siblings(conversation.tree, message.id),
      });
    }
    this.empty.hidden = messages.length > 0;
    if (follows) this.toEnd();
  }

  // Only the answer that grows.
  grow(conversation, running) {
    const view = this.views.find((one) => one.message === running.message);
    if (!view) return;
    const follows = this.isAtEnd();
    view.update({
      running: true,
      busy: true,
      progress: running.progress,
      siblings: siblings(conversation.tree, running.message.id)
    });
    if (follows) this.toEnd();
  }

  // The button that was pressed has gone with the message of the other branch.
  focusBranches(id) {
    const view = this.views.find((one) => one.message.id === id);
    view?.element.querySelector('.branches button:enabled')?.focus();
  }

  // Whoever has scrolled up wants to read there.
  isAtEnd() {
    const {scrollTop, clientHeight, scrollHeight} = this.scroller;
    return scrollTop + clientHeight >= scrollHeight - 40;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
