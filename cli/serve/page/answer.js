// An answer that grows by the pieces of a stream, and what is sent so that one comes.

// Into `message`: text, reasoning, calls, facts, why it ended. Returns how far the prompt is read, if the piece says.
export function grow(message, piece) {
  const choice = piece.choices?.[0];
  const delta = choice?.delta ?? {};
  if (delta.content) message.text += delta.content;
  if (delta.reasoning_content) message.reasoning = (message.reasoning ?? '') + delta.reasoning_content;
  for (const call of delta.tool_calls ?? []) {
    message.calls ??= [];
    const grown = message.calls[call.index] ??= {id: '', name: '', arguments: ''};
    if (call.id) grown.id = call.id;
    if (call.function?.name) grown.name = call.function.name;
    grown.arguments += call.function?.arguments ?? '';
  }
  if (choice?.finish_reason) message.finish = choice.finish_reason;
  for (const name of ['timings', 'usage', 'lacake']) {
    if (piece[name]) message.facts = {...message.facts, [name]: piece[name]};
  }
  return piece.prompt_progress;
}

// A message of ours with the texts of its files. They come first: a question behind a long text is what caches with a
// budget are made for.
export function contentOf(message) {
  const files = (message.files ?? []).map((file) => `${file.name}:\n\n${file.text.replace(/\n*$/, '')}\n\n`);
  return files.join('') + message.text;
}

// The body of a request for an answer to the last of `messages`.
export function requestOf(messages, settings, session) {
  const list = [];
  if (settings.system) list.push({role: 'system', content: settings.system});
  for (const message of messages) {
    if (message.role === 'user') {
      list.push({role: 'user', content: contentOf(message)});
    } else if (message.text || message.reasoning || message.calls) {
      list.push(answerOf(message));
    }
  }
  const body = {messages: list, lacake: {session}};
  for (const name of ['temperature', 'top_p', 'top_k', 'min_p', 'seed', 'max_tokens']) {
    if (settings[name] !== undefined) body[name] = settings[name];
  }
  for (const name of ['policy', 'kv_budget']) {
    if (settings[name]) body.lacake[name] = settings[name];
  }
  return body;
}

// As it came, so that the server finds it in its cache.
function answerOf(message) {
  const answer = {role: 'assistant', content: message.text};
  if (message.reasoning) answer.reasoning_content = message.reasoning;
  if (message.calls) {
    answer.tool_calls = message.calls.map(
        (call) => ({id: call.id, type: 'function', function: {name: call.name, arguments: call.arguments}}));
  }
  return answer;
}
