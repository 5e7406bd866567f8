// KV memory: what is reserved for all conversations, and what each of them holds of its budget.

import {make} from './dom.js';
import {bytes, count} from './units.js';

// `sessions`: GET /v1/sessions; `reserved`: bytes for all of them; `names`: a Map from their ids to titles.
export function memoryView(sessions, reserved, names, current) {
  const inMemory = sessions.filter((one) => one.state !== 'disk');
  const budgets = inMemory.reduce((sum, one) => sum + one.budget_bytes, 0);
  const held = inMemory.reduce((sum, one) => sum + one.held_bytes, 0);
  const rows = sessions.map((one) => {
    const name = names.get(one.id) ?? 'Another client’s';
    return make(
        'li', {'aria-current': one.id === current ? 'true' : null}, make('span', {class: 'name'}, name),
        make('span', {class: 'state'}, stateOf(one)),
        one.state === 'disk' ? null : bar(one.held_bytes, one.budget_bytes, `${name}: held of its budget`));
  });
  return make(
      'div', {class: 'memory'},
      make(
          'p', {},
          `Conversations in memory: ${bytes(held)} held, ${bytes(budgets)} in budgets, ${bytes(reserved)} reserved.`),
      bar(budgets, reserved, 'Budgets of conversations in memory'), make('ul', {}, ...rows));
}

function stateOf(session) {
  if (session.state === 'disk') return `on disk, ${bytes(session.file_bytes)}`;
  return `${session.state}, ${count(session.tokens)} tokens`;
}

function bar(part, whole, label) {
  const text = `${bytes(part)} of ${bytes(whole)}`;
  const filled = make('span', {});
  filled.style.width = `${whole ? Math.min(100, 100 * part / whole) : 0}%`;
  const meter = make(
      'span', {
        role: 'meter',
        'aria-label': label,
        'aria-valuemin': '0',
        'aria-valuemax': String(whole),
        'aria-valuenow': String(part),
        'aria-valuetext': text,
      },
      filled);
  return make('span', {class: 'bar'}, meter, make('span', {class: 'size'}, text));
}
