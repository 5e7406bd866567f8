// Answers that are being written, of any conversation: one goes on while another is looked at.

import {grow, requestOf} from './answer.js';
import {chat} from './api.js';
import {pathTo} from './tree.js';

export class Talk {
  // `grown(conversation, running)`: at most once a frame; `ended(conversation, running, error)`: once.
  constructor({grown, ended}) {
    this.grown = grown;
    this.ended = ended;
    this.all = new Map();
  }

  // {message, progress}, or undefined.
  running(conversation) {
    return this.all.get(conversation);
  }

  stop(conversation) {
    this.all.get(conversation)?.abort.abort();
  }

  // `message` is an empty answer, in the tree already.
  async answer(conversation, message) {
    const running = {message, progress: undefined, abort: new AbortController()};
    this.all.set(conversation, running);
    const questions = pathTo(conversation.tree, message.id).slice(0, -1);
    const request = requestOf(questions, conversation.settings, conversation.id);
    let failure = null;
    try {
      const begun = () => {
        running.progress = {};
        this.tellSoon(conversation, running);
      };
      for await (const piece of chat(request, running.abort.signal, begun)) {
        running.progress = grow(message, piece) ?? running.progress;
        if (message.facts?.lacake?.id) conversation.server_id = message.facts.lacake.id;
        this.tellSoon(conversation, running);
      }
    } catch (error) {
      if (error.name === 'AbortError') {
        message.stopped = true;
      } else {
        failure = error;
        message.error = error.message;
      }
    }
    this.all.delete(conversation);
    this.ended(conversation, running, failure);
  }

  tellSoon(conversation, running) {
    if (running.told) return;
    running.told = true;
    requestAnimationFrame(() => {
      running.told = false;
      if (this.all.get(conversation) === running) this.grown(conversation, running);
    });
  }
}
