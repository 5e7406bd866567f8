// What a cache holds, from GET /v1/sessions/{id}/cache, made ready to be drawn.

// {policy, n_tokens, tokens, layers: [{layer, n_heads, n_entries, oldest, newest, heads: bytes by position}],
//  holders: for each position in how many layers some head holds it}
// An entry is a token in all heads of a layer, so where each head holds others they add up.
export function heldOf(cache) {
  const holders = new Uint16Array(cache.n_tokens);
  const layers = cache.layers.map(({layer, n_heads, positions, heads}) => {
    const by = new Uint8Array(cache.n_tokens);
    let n_rows = 0;
    positions.forEach((position, i) => {
      by[position] = heads[i];
      n_rows += heads[i];
      if (heads[i] > 0) ++holders[position];
    });
    return {layer, n_heads, heads: by, n_entries: n_rows / n_heads, oldest: positions[0], newest: positions.at(-1)};
  });
  return {policy: cache.policy, n_tokens: cache.n_tokens, tokens: cache.tokens, layers, holders};
}

// Shares from 0 to 1 of `n_columns` columns over the positions [from, to) of a layer: the mean of those in a column.
export function columnsOf(layer, from, to, n_columns) {
  const columns = new Float32Array(n_columns);
  for (let column = 0; column < n_columns; ++column) {
    const first = Math.floor(from + (to - from) * column / n_columns);
    const last = Math.max(first + 1, Math.floor(from + (to - from) * (column + 1) / n_columns));
    let sum = 0;
    for (let position = first; position < last; ++position) sum += layer.heads[position] ?? 0;
    columns[column] = sum / ((last - first) * layer.n_heads);
  }
  return columns;
}

export const kShades = 8;

// 0: no layer holds it; else 1 (few do) to kShades (all do).
export function shadeOf(holders, n_layers) {
  return holders === 0 ? 0 : Math.max(1, Math.ceil(kShades * holders / n_layers));
}

// Tokens that look alike and stand together, as one: [{shade, text}].
export function runsOf(held, from, to) {
  const runs = [];
  for (let position = from; position < to; ++position) {
    const shade = shadeOf(held.holders[position], held.layers.length);
    if (runs.at(-1)?.shade !== shade) runs.push({shade, text: ''});
    runs.at(-1).text += held.tokens[position] ?? '';
  }
  return runs;
}

// A token in words: line breaks and spaces can be seen.
export function nameOf(token) {
  return `“${(token ?? '').replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '␣')}”`;
}
