// A conversation's messages as a tree: an edited question and an answer asked for again are branches beside the old
// ones. `chosen` says for each message which of those behind it is shown. Plain objects, kept as JSON.

export function emptyTree() {
  return {messages: [], chosen: {}};
}

const kRoot = '';

export function find(tree, id) {
  return tree.messages.find((message) => message.id === id);
}

// Behind `parent` ("": the first of a conversation), and shown from now on.
export function add(tree, parent, message) {
  const number = tree.messages.reduce((most, one) => Math.max(most, Number(one.id)), 0) + 1;
  const added = {...message, id: String(number), parent: parent || kRoot};
  tree.messages.push(added);
  choose(tree, added.id);
  return added;
}

export function choose(tree, id) {
  tree.chosen[find(tree, id).parent] = id;
}

// The messages that are shown, from the first.
export function path(tree) {
  const shown = [];
  for (let next = tree.chosen[kRoot]; next;) {
    const message = find(tree, next);
    if (!message || shown.includes(message)) break;
    shown.push(message);
    next = tree.chosen[message.id];
  }
  return shown;
}

// Those up to `id`.
export function pathTo(tree, id) {
  const before = [];
  for (let message = find(tree, id); message; message = find(tree, message.parent)) before.unshift(message);
  return before;
}

// It and those beside it, the oldest first.
export function siblings(tree, id) {
  const {parent} = find(tree, id);
  return tree.messages.filter((message) => message.parent === parent).map((message) => message.id);
}
