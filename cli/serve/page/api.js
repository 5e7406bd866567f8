// The server's API. Every error is one line that a person can read.

import {events} from './events.js';

const kKey = 'lacake.api_key';

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// For this tab only, until it is closed.
export function setKey(key) {
  key ? sessionStorage.setItem(kKey, key) : sessionStorage.removeItem(kKey);
}

async function ask(path, options = {}) {
  const headers = {...options.headers};
  const key = sessionStorage.getItem(kKey);
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, {...options, headers});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServerError('The server cannot be reached. Is it running?', 0);
  }
  if (!response.ok) throw new ServerError(await lineOf(response), response.status);
  return response;
}

async function lineOf(response) {
  let message = '';
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not from lacake: a proxy, say.
  }
  if (response.status === 401) return 'The server asks for an API key.';
  const again = response.headers.get('Retry-After');
  const wait = again ? ` (try again in ${again} s)` : '';
  return `${message || `The server answered with status ${response.status}.`}${wait}`;
}

export async function get(path) {
  return (await ask(path)).json();
}

// Nothing happens where it is not there.
export async function drop(path) {
  try {
    await ask(path, {method: 'DELETE'});
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

// Pieces of an answer as they come. `signal` ends it, and the server's work with it. `admitted` is called when the
// server has begun with it.
export async function* chat(body, signal, admitted) {
  const response = await ask('v1/chat/completions', {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({...body, stream: true, return_progress: true, stream_options: {include_usage: true}}),
    signal,
  });
  admitted();
  let whole = false;
  try {
    for await (const event of events(response.body)) {
      if (event.error) throw new ServerError(event.error.message, event.error.code);
      if (event.done) {
        whole = true;
      } else {
        yield event;
      }
    }
  } catch (error) {
    if (error.name === 'AbortError' || error instanceof ServerError) throw error;
    throw new ServerError(`The connection broke before the answer was whole (${error.message}).`, 0);
  }
  if (!whole) throw new ServerError('The connection ended before the answer was whole.', 0);
}
