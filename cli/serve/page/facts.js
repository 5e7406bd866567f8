// What the server said of an answer, in words: a list of [name, value].

import {bytes, count, percent} from './units.js';

export function factsOf(message) {
  const {timings, usage, lacake} = message.facts ?? {};
  const facts = [];
  if (timings?.predicted_per_second) facts.push(['speed', `${timings.predicted_per_second.toFixed(1)} tokens/s`]);
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    facts.push(['written', `${count(usage.completion_tokens)} tokens`]);
    facts.push(['read', `${count(usage.prompt_tokens - cached)} tokens`]);
    facts.push(['cached', `${count(cached)} tokens`]);
  }
  if (lacake?.policy) {
    facts.push(['policy', lacake.policy]);
    facts.push(['entries held', count(lacake.entries_held)]);
    facts.push([
      'dropped',
      lacake.dropped_bytes === 0 ?
          'nothing' :
          `${bytes(lacake.dropped_bytes)} (${percent(lacake.dropped_bytes, lacake.dropped_bytes + lacake.held_bytes)})`
    ]);
    facts.push(['budget', `${bytes(lacake.held_bytes)} of ${bytes(lacake.budget_bytes)}`]);
  }
  if (message.finish === 'length') facts.push(['ended', 'at the most tokens allowed']);
  if (message.stopped) facts.push(['ended', 'stopped by you']);
  return facts;
}
