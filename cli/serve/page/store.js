// Conversations in this browser: each under a key of its own in localStorage, so that an answer that grows writes no
// other. Nothing here is sent anywhere.

import {emptyTree} from './tree.js';

const kPrefix = 'lacake.chat.';
const kLastSettings = 'lacake.settings';

// Of 16 random bytes. crypto.randomUUID() is not there on pages that came over plain HTTP.
export function newId() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// With the settings that were last chosen.
export function newConversation() {
  return {
    id: newId(),
    title: '',
    created: Date.now(),
    updated: Date.now(),
    server_id: '',
    draft: {text: '', files: []},
    settings: lastSettings(),
    tree: emptyTree(),
  };
}

export function load() {
  const found = [];
  let unreadable = 0;
  for (let i = 0; i < localStorage.length; ++i) {
    const key = localStorage.key(i);
    if (!key.startsWith(kPrefix)) continue;
    try {
      found.push(checked(JSON.parse(localStorage.getItem(key))));
    } catch {
      ++unreadable;  // left as it is: another version may read it
    }
  }
  found.sort((a, b) => b.updated - a.updated);
  return {conversations: found, unreadable};
}

// Throws where the browser gives no more room.
export function save(conversation) {
  localStorage.setItem(kPrefix + conversation.id, JSON.stringify(conversation));
}

// What another tab has done to a conversation, told by an event `storage`: {id, conversation}, null where it is
// deleted. Undefined: something else.
export function changeOf({key, newValue}) {
  if (!key?.startsWith(kPrefix)) return undefined;
  try {
    return {id: key.slice(kPrefix.length), conversation: newValue && checked(JSON.parse(newValue))};
  } catch {
    return undefined;  // of another version
  }
}

export function forget(conversation) {
  localStorage.removeItem(kPrefix + conversation.id);
}

function lastSettings() {
  try {
    return JSON.parse(localStorage.getItem(kLastSettings)) ?? {};
  } catch {
    return {};
  }
}

export function keepSettings(settings) {
  localStorage.setItem(kLastSettings, JSON.stringify(settings));
}

// --- files -----------------------------------------------------------------------------------------------------------

export function exported(conversations) {
  return JSON.stringify({format: 'lacake conversations', version: 1, conversations}, null, 1);
}

// The conversations of a file that `exported` made. Throws an Error that says what is wrong with it.
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error('expected JSON');
  }
  if (file?.format !== 'lacake conversations') throw new Error('expected "format": "lacake conversations"');
  if (file.version !== 1) throw new Error(`expected "version": 1, found ${JSON.stringify(file.version)}`);
  if (!Array.isArray(file.conversations)) throw new Error('expected a list "conversations"');
  return file.conversations.map(checked);
}

const isText = (value) => typeof value === 'string';
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

function expect(holds, what) {
  if (!holds) throw new Error(`expected ${what}`);
}

// It may come from anybody's file.
function checked(one) {
  expect(isObject(one) && /^[0-9a-f]{32}$/.test(one.id), 'conversations with an "id" of 32 hexadecimal digits');
  expect(isText(one.title) && isText(one.server_id), '"title" and "server_id" that are texts');
  expect(Number.isFinite(one.created) && Number.isFinite(one.updated), '"created" and "updated" that are times');
  expect(isObject(one.settings), '"settings" that is an object');
  expect(isObject(one.draft) && isText(one.draft.text) && areFiles(one.draft.files), '"draft" with a text and files');
  expect(isObject(one.tree) && isObject(one.tree.chosen) && Array.isArray(one.tree.messages), '"tree" with messages');
  const ids = new Set(['']);
  for (const message of one.tree.messages) {
    expect(isObject(message) && isText(message.id) && isText(message.text), 'messages with "id" and "text"');
    expect(message.role === 'user' || message.role === 'assistant', 'messages whose "role" is user or assistant');
    // A message comes after the one that it answers, so there are no circles.
    expect(ids.has(message.parent) && !ids.has(message.id), 'messages behind their "parent"');
    expect(message.files === undefined || areFiles(message.files), '"files" with names and texts');
    expect(message.calls === undefined || areCalls(message.calls), '"calls" with names and arguments');
    expect(message.facts === undefined || isObject(message.facts), '"facts" that is an object');
    ids.add(message.id);
  }
  return one;
}

function areFiles(files) {
  return Array.isArray(files) && files.every((file) => isText(file?.name) && isText(file.text) && file.size >= 0);
}

function areCalls(calls) {
  return Array.isArray(calls) && calls.every((call) => isText(call?.name) && isText(call.arguments));
}
