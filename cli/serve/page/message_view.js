// One message: what was said, and what can be done with it.

import {copyButton, icon, iconButton, make} from './dom.js';
import {factsOf} from './facts.js';
import {fileList} from './files.js';
import {MarkdownView} from './markdown_view.js';
import {count} from './units.js';

// `actions`: edit(message, text), retry(message), choose(id).
export class MessageView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.parts = {};
    const own = message.role === 'user';
    this.body = make('div', {class: 'body'});
    this.foot = make('div', {class: 'foot'});
    this.element = make(
        'li', {class: `message ${message.role}`, 'data-id': message.id},
        make('h2', {class: 'unseen'}, own ? 'You' : 'Answer'), this.body, this.foot);
    if (own) this.drawOwn();
  }

  // `state`: {running, progress, siblings}.
  update(state) {
    if (this.message.role === 'assistant') this.drawAnswer(state);
    this.drawFoot(state);
  }

  drawOwn() {
    const {text, files} = this.message;
    this.body.replaceChildren(...[files?.length ? fileList(files) : null,
                                  text ? make('div', {class: 'said'}, text) : null,
    ].filter(Boolean));
  }

  // Each part is made when there is something for it, and stays.
  part(name, create) {
    if (!this.parts[name]) {
      this.parts[name] = create();
      const order = ['reasoning', 'text', 'calls', 'state', 'error'];
      const next = order.slice(order.indexOf(name) + 1).map((one) => this.parts[one]).find(Boolean);
      this.body.insertBefore(this.parts[name], next ?? null);
    }
    return this.parts[name];
  }

  drop(name) {
    this.parts[name]?.remove();
    delete this.parts[name];
  }

  drawAnswer({running, progress}) {
    const {message} = this;
    if (message.reasoning) this.drawReasoning(running);
    if (message.text) {
      this.part('text', () => {
        this.text = new MarkdownView();
        return this.text.element;
      });
      this.text.show(message.text);
    }
    if (message.calls) this.drawCalls();
    const begun = message.text || message.reasoning || message.calls;
    running && !begun ? this.drawState(progress) : this.drop('state');
    this.element.classList.toggle('running', Boolean(running));
    // Said once by a screen reader, however often it is drawn.
    message.error ? this.part('error', () => make('p', {class: 'error', role: 'alert'}, message.error)) :
                    this.drop('error');
    if (running || begun || message.error) return;
    this.part(
        'state', () => make('p', {class: 'quiet'}, message.stopped ? 'Stopped before it began.' : 'An empty answer.'));
  }

  drawReasoning(running) {
    const {message} = this;
    const part = this.part('reasoning', () => {
      this.reasoning = new MarkdownView();
      return make('details', {class: 'reasoning'}, make('summary', {}, 'Reasoning'), this.reasoning.element);
    });
    part.firstChild.textContent = running && !message.text ? 'Reasoning …' : 'Reasoning';
    this.reasoning.show(message.reasoning);
  }

  drawCalls() {
    const part = this.part('calls', () => make('div', {class: 'calls'}));
    part.replaceChildren(...this.message.calls.filter(Boolean).map(
        (call) => make(
            'figure', {class: 'code'}, make('figcaption', {}, make('span', {}, 'Calls ', make('b', {}, call.name))),
            make('pre', {tabindex: '0'}, make('code', {}, indented(call.arguments))))));
  }

  drawState(progress) {
    const part = this.part('state', () => make('div', {class: 'state'}));
    const label = make('span', {}, 'Waiting for the server …');
    if (!progress) return part.replaceChildren(label);
    label.textContent =
        progress.total ? `Reading ${count(progress.processed)} of ${count(progress.total)} tokens` : 'Reading …';
    const bar = make('progress', {
      max: progress.total || null,
      value: progress.total ? progress.processed : null,
      'aria-label': 'The prompt is read'
    });
    part.replaceChildren(label, bar);
  }

  drawFoot({running, siblings, busy}) {
    const {message, actions} = this;
    const at = siblings.indexOf(message.id);
    const parts = [];
    if (siblings.length > 1) {
      const go = (to) => () => actions.choose(siblings[to]);
      parts.push(make(
          'span', {class: 'branches', role: 'group', 'aria-label': 'Branches'},
          iconButton('left', 'Earlier branch', go(at - 1), {disabled: at === 0}),
          make('span', {}, `${at + 1}/${siblings.length}`),
          iconButton('right', 'Later branch', go(at + 1), {disabled: at + 1 === siblings.length})));
    }
    if (!running) {
      if (message.text) parts.push(copyButton('Copy', () => message.text));
      if (message.role === 'user') {
        parts.push(iconButton('edit', 'Edit', () => this.edit(), {disabled: busy}));
      } else {
        parts.push(iconButton(
            'retry', message.error ? 'Try again' : 'Answer again', () => actions.retry(message), {disabled: busy}));
      }
      const facts = message.role === 'assistant' ? factsOf(message) : [];
      if (facts.length > 0) {
        parts.push(make(
            'dl', {class: 'facts'},
            ...facts.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value)))));
      }
    }
    this.foot.replaceChildren(...parts);
  }

  // Sends what it becomes as a branch beside it.
  edit() {
    const field = make('textarea', {'aria-label': 'Edit your message', rows: '3'});
    field.value = this.message.text;
    const close = () => {
      this.drawOwn();
      this.foot.hidden = false;
      this.foot.querySelector('[aria-label="Edit"]')?.focus();
    };
    const done = () => field.value.trim() && this.actions.edit(this.message, field.value.trim());
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        done();
      } else if (event.key === 'Escape') {
        event.stopPropagation();
        close();
      }
    });
    this.foot.hidden = true;
    this.body.replaceChildren(
        ...[this.message.files?.length ? fileList(this.message.files) : null,
            make(
                'div', {class: 'editing'}, field, make('button', {type: 'button', onclick: close}, 'Cancel'),
                make('button', {type: 'button', class: 'main', onclick: done}, icon('send'), 'Send')),
    ].filter(Boolean));
    field.style.height = `${field.scrollHeight + 2}px`;
    field.focus();
  }
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;  // not whole yet, or none
  }
}
