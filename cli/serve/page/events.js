// A stream of events, as POST with "stream": true answers it: the data of each, parsed.

export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const pieces = (rest + value).split('\n\n');
    rest = pieces.pop();
    for (const piece of pieces) {
      // Lines that begin with a colon only say that the server is alive.
      const data =
          piece.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('\n');
      if (data === '[DONE]') {
        yield {done: true};
      } else if (data) {
        yield JSON.parse(data);
      }
    }
  }
}
