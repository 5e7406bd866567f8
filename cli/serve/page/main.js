// The page: what belongs to which part, and what happens when.

import {drop, get, setKey} from './api.js';
import {CachePanel} from './cache_panel.js';
import {ChatView} from './chat_view.js';
import {Composer} from './composer.js';
import {ConversationList, titleOf} from './conversation_list.js';
import {icon, make, say} from './dom.js';
import {Settings} from './settings.js';
import * as store from './store.js';
import {Talk} from './talk.js';
import * as tree from './tree.js';

const kSaveMs = 1000;
const kTitleLength = 60;

const element = (id) => document.getElementById(id);

let conversations = [];
let current = null;
let props = null;

// --- notices ---------------------------------------------------------------------------------------------------------

// One line above the field where messages are written. `action`: {label, call}.
function notify(line, action) {
  const close = () => element('notice').replaceChildren();
  const button = action &&
      make('button', {
                   type: 'button',
                   onclick: () => {
                     close();
                     action.call();
                   }
                 },
           action.label);
  element('notice').replaceChildren(
      make('p', {}, line), button ?? '', make('button', {type: 'button', onclick: close}, 'Close'));
}

// --- keeping ---------------------------------------------------------------------------------------------------------

const unsaved = new Set();
let saving = 0;

function saveSoon(conversation) {
  unsaved.add(conversation);
  saving ||= setTimeout(saveNow, kSaveMs);
}

function saveNow() {
  clearTimeout(saving);
  saving = 0;
  for (const conversation of unsaved) {
    // Nothing was written in it yet, so there is nothing to keep.
    const empty =
        conversation.tree.messages.length === 0 && !conversation.draft.text && conversation.draft.files.length === 0;
    if (empty || !conversations.includes(conversation)) continue;
    try {
      store.save(conversation);
    } catch {
      notify(
          'This browser keeps no more: export or delete some. What you see is here until the page is closed.',
          {label: 'Export', call: exportAll});
    }
  }
  unsaved.clear();
}

// --- conversations ---------------------------------------------------------------------------------------------------

function showAll() {
  const running = talk.running(current);
  list.show(
      conversations.filter((one) => one.tree.messages.length > 0 || one === current), current,
      (one) => Boolean(talk.running(one)));
  view.show(current, running);
  composer.isRunning = Boolean(running);
  panel.show(current, conversations);
  element('title').textContent = titleOf(current);
  document.title = current.title ? `${current.title} – lacake` : 'lacake';
}

function open(conversation) {
  current = conversation;
  history.replaceState(null, '', `#${conversation.id}`);
  showAll();
  view.toEnd();
  composer.show(conversation.draft);
  composer.focus();
  closeList();
}

function openNew() {
  const empty = conversations.find(
      (one) => one.tree.messages.length === 0 && one.draft.text === '' && one.draft.files.length === 0);
  if (!empty) conversations.unshift(store.newConversation());
  open(empty ?? conversations[0]);
}

function rename(conversation, title) {
  conversation.title = title;
  saveSoon(conversation);
  showAll();
}

function remove(conversation) {
  talk.stop(conversation);
  const at = conversations.indexOf(conversation);
  conversations.splice(at, 1);
  store.forget(conversation);
  if (conversation === current) {
    conversations.length > 0 ? open(conversations[Math.min(at, conversations.length - 1)]) : openNew();
  }
  showAll();
  if (!talk.running(conversation)) dropFromServer(conversation);
  notify(`“${titleOf(conversation)}” is deleted.`, {
    label: 'Undo',
    call: () => {
      conversations.splice(at, 0, conversation);
      saveSoon(conversation);
      open(conversation);
    }
  });
}

// It would find no more of it than its messages say, which are sent again if they come back.
async function dropFromServer(conversation) {
  if (!conversation.server_id) return;
  try {
    await drop(`v1/sessions/${encodeURIComponent(conversation.server_id)}`);
  } catch (error) {
    notify(`The server still holds “${titleOf(conversation)}”: ${error.message}`);
  }
}

function exportAll() {
  const address = URL.createObjectURL(new Blob([store.exported(conversations)], {type: 'application/json'}));
  make('a', {href: address, download: 'lacake-conversations.json'}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function importFrom(file) {
  let found;
  try {
    found = store.imported(await file.text());
  } catch (error) {
    return notify(`${file.name}: ${error.message}`);
  }
  const fresh = found.filter((one) => !conversations.some((other) => other.id === one.id));
  conversations.unshift(...fresh);
  fresh.forEach(saveSoon);
  saveNow();
  showAll();
  const known = found.length - fresh.length;
  notify(`Imported: ${fresh.length}.` + (known ? ` Here already, left as they are: ${known}.` : ''));
}

// --- talking ---------------------------------------------------------------------------------------------------------

function answer(parent) {
  const message = tree.add(current.tree, parent, {role: 'assistant', text: ''});
  ask(current, message);
}

function ask(conversation, message) {
  touch(conversation);
  const done = talk.answer(conversation, message);
  showAll();
  view.toEnd();
  say('The answer is being written');
  return done;
}

// The newest comes first. One that was deleted while its answer was written stays so.
function touch(conversation) {
  const at = conversations.indexOf(conversation);
  if (at < 0) return;
  conversation.updated = Date.now();
  conversations.splice(at, 1);
  conversations.unshift(conversation);
  saveSoon(conversation);
}

function send({text, files}) {
  const message = {role: 'user', text, ...(files.length > 0 ? {files} : {})};
  const last = tree.path(current.tree).at(-1);
  const added = tree.add(current.tree, last?.id, message);
  current.title ||= (text || files[0].name).replace(/\s+/g, ' ').slice(0, kTitleLength);
  current.draft = {text: '', files: []};
  composer.show(current.draft);
  answer(added.id);
}

const talk = new Talk({
  grown(conversation, running) {
    saveSoon(conversation);
    if (conversation === current) view.grow(conversation, running);
  },
  ended(conversation, running, error) {
    if (!conversations.includes(conversation)) return dropFromServer(conversation);
    touch(conversation);
    saveNow();
    showAll();
    say(error ? error.message : 'The answer is complete');
    if (error?.status === 401) askForKey(() => retry(conversation, running.message));
    if (conversation === current) panel.refresh();
  },
});

// An answer that never came is asked for in its place; one that did stays as a branch.
function retry(conversation, message) {
  if (talk.running(conversation)) return;
  if (message.text || message.reasoning || message.calls) {
    return ask(conversation, tree.add(conversation.tree, message.parent, {role: 'assistant', text: ''}));
  }
  for (const name of ['error', 'stopped', 'finish', 'facts']) delete message[name];
  ask(conversation, message);
}

const view = new ChatView({
  retry: (message) => retry(current, message),
  edit(message, text) {
    const files = message.files ? {files: message.files} : {};
    answer(tree.add(current.tree, message.parent, {role: 'user', text, ...files}).id);
  },
  choose(id) {
    tree.choose(current.tree, id);
    saveSoon(current);
    showAll();
    view.focusBranches(id);
  },
});

// --- parts -----------------------------------------------------------------------------------------------------------

const list = new ConversationList({open, rename, remove});
const panel = new CachePanel();
const composer = new Composer({
  changed(draft) {
    current.draft = draft;
    saveSoon(current);
  },
  send,
  stop: () => talk.stop(current),
  complain: notify,
});
const settings = new Settings((chosen) => {
  current.settings = chosen;
  store.keepSettings(chosen);
  saveSoon(current);
});

let afterKey = () => {};

function askForKey(call) {
  afterKey = call;
  if (!element('key').open) element('key').showModal();
}

element('key').querySelector('form').addEventListener('submit', () => {
  setKey(element('key-text').value.trim());
  element('key-text').value = '';
  learn();
  afterKey();
});

async function learn() {
  try {
    props = await get('props');
    element('model').textContent = props.model_alias;
  } catch (error) {
    error.status === 401 ? askForKey(() => {}) : notify(error.message);
  }
}

const showList = (open) => {
  document.body.classList.toggle('with-list', open);
  element('list-toggle').setAttribute('aria-expanded', String(open));
};
const closeList = () => showList(false);

element('list-toggle').addEventListener('click', () => {
  showList(true);
  element('new').focus();
});
element('veil').addEventListener('click', closeList);
element('new').addEventListener('click', openNew);
element('settings-open').addEventListener('click', () => settings.open(current.settings, props));
element('cache-toggle').addEventListener('click', () => panel.toggle(!panel.isOpen));
element('cache-close').addEventListener('click', () => panel.toggle(false));
element('cache').addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  event.stopPropagation();
  panel.toggle(false);
});
element('export').addEventListener('click', exportAll);
element('import').addEventListener('click', () => element('import-file').click());
element('import-file').addEventListener('change', ({target}) => {
  if (target.files[0]) importFrom(target.files[0]);
  target.value = '';
});

document.addEventListener('keydown', (event) => {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    showList(true);
    element('search').select();
  } else if (control && event.shiftKey && event.key.toLowerCase() === 'o') {
    event.preventDefault();
    openNew();
  } else if (event.key === 'Escape' && !document.querySelector('dialog[open]')) {
    document.body.classList.contains('with-list') ? closeList() : talk.stop(current);
  }
});
// What is written here stays; for the rest, what another tab has kept counts.
addEventListener('storage', (event) => {
  const change = store.changeOf(event);
  const at = conversations.findIndex((one) => one.id === change?.id);
  const here = conversations[at];
  if (!change || talk.running(here) || (!change.conversation && here === current)) return;
  if (here) conversations.splice(at, 1);
  if (change.conversation) conversations.splice(Math.max(at, 0), 0, change.conversation);
  if (here && here === current) {
    current = change.conversation;
    current.draft = here.draft;
  }
  showAll();
});
addEventListener('pagehide', saveNow);
document.addEventListener('visibilitychange', saveNow);

document.querySelectorAll('[data-icon]').forEach((button) => button.prepend(icon(button.dataset.icon)));

const loaded = store.load();
conversations = loaded.conversations;
const asked = conversations.find((one) => one.id === location.hash.slice(1));
asked ? open(asked) : openNew();
if (loaded.unreadable) notify(`Conversations that could not be read, left as they are: ${loaded.unreadable}.`);
learn();
