// Markdown as models write it, read into plain objects. What is not understood stays the letters that it was. Knows
// nothing of the page: markdown_view.js draws what this returns.
//
// Time is proportional to the length of a text, whatever it holds, because depths are bounded.

const kMostDepth = 12;  // of quotes and lists in each other
const kMostMarks = 24;  // of emphasis and brackets that are open at once

const kFence = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const kHeading = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const kRule = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const kItem = /^([ \t]*)([-*+]|\d{1,9}[.)])([ \t]+|$)(.*)$/;
const kQuote = /^ {0,3}> ?(.*)$/;
const kDelimiters = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

// --- blocks ----------------------------------------------------------------------------------------------------------

// A list of {type, source, ...}. A text that grows changes only its last blocks.
export function blocks(text, depth = 0) {
  return blocksOf(text.replace(/\r\n?/g, '\n').split('\n'), depth);
}

function blocksOf(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      ++at;
      continue;
    }
    const [block, next] = blockAt(lines, at, depth);
    block.source = lines.slice(at, next).join('\n');
    found.push(block);
    at = next;
  }
  return found;
}

const isBlank = (line) => line.trim() === '';

function blockAt(lines, at, depth) {
  const line = lines[at];
  const fence = kFence.exec(line);
  if (fence) return codeAt(lines, at, fence);
  const heading = kHeading.exec(line);
  if (heading) {
    const text = (heading[2] ?? '').trim().replace(/(^|[ \t])#+$/, '').trimEnd();
    return [{type: 'heading', level: heading[1].length, text}, at + 1];
  }
  if (kRule.test(line)) return [{type: 'rule'}, at + 1];
  if (depth < kMostDepth && kQuote.test(line)) return quoteAt(lines, at, depth);
  if (depth < kMostDepth && kItem.test(line)) return listAt(lines, at, depth);
  if (startsTable(lines, at)) return tableAt(lines, at);
  return paragraphAt(lines, at, depth);
}

// The end of the text ends it too: an answer that is still being written has no closing fence yet.
function codeAt(lines, at, fence) {
  const closing = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) ++end;
  const indent = /^ */.exec(lines[at])[0].length;
  const inside = lines.slice(at + 1, end).map((line) => line.replace(new RegExp(`^ {0,${indent}}`), ''));
  return [
    {type: 'code', language: fence[2].trim().split(/\s/)[0], text: inside.join('\n')}, Math.min(end + 1, lines.length)
  ];
}

function quoteAt(lines, at, depth) {
  const inside = [];
  let end = at;
  for (; end < lines.length; ++end) {
    const quoted = kQuote.exec(lines[end]);
    if (!quoted) break;
    inside.push(quoted[1]);
  }
  return [{type: 'quote', blocks: blocksOf(inside, depth + 1)}, end];
}

const widthOf = (space) => space.replaceAll('\t', '    ').length;

function listAt(lines, at, depth) {
  const first = kItem.exec(lines[at]);
  const numbered = /\d/.test(first[2]);
  const mark = first[2].at(-1);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = kItem.exec(lines[end]);
    const belongs = item && item[2].at(-1) === mark && /\d/.test(item[2]) === numbered && !kRule.test(lines[end]);
    if (!belongs) break;
    const inset = widthOf(item[1]) + item[2].length + Math.min(Math.max(widthOf(item[3]), 1), 4);
    const inside = [item[4]];
    let last = ++end;
    for (; end < lines.length; ++end) {
      const line = lines[end];
      const indent = widthOf(/^[ \t]*/.exec(line)[0]);
      if (isBlank(line)) {
        inside.push('');
        continue;
      }
      const deeper = indent >= inset || (indent > widthOf(item[1]) + 1 && kItem.test(line));
      const goesOn = !isBlank(lines[end - 1]) && !startsBlock(lines, end);
      if (!deeper && !goesOn) break;
      inside.push(line.replaceAll('\t', '    ').slice(Math.min(indent, inset)));
      last = end + 1;
    }
    inside.length -= end - last;
    const nextIsItem = end < lines.length && kItem.test(lines[end]);
    if (!nextIsItem) end = last;
    items.push(blocksOf(inside, depth + 1));
  }
  return [{type: 'list', numbered, start: numbered ? parseInt(first[2], 10) : 1, items}, end];
}

function startsBlock(lines, at) {
  const line = lines[at];
  return kFence.test(line) || kHeading.test(line) || kRule.test(line) || kQuote.test(line) || kItem.test(line);
}

function startsTable(lines, at) {
  return lines[at].includes('|') && at + 1 < lines.length && lines[at + 1].includes('-') &&
      kDelimiters.test(lines[at + 1]) && cellsOf(lines[at]).length === cellsOf(lines[at + 1]).length;
}

function tableAt(lines, at) {
  const head = cellsOf(lines[at]);
  const align = cellsOf(lines[at + 1]).map((cell) => {
    if (/^:-+:$/.test(cell)) return 'center';
    return /-:$/.test(cell) ? 'right' : 'left';
  });
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && !isBlank(lines[end]) && lines[end].includes('|'); ++end) {
    const cells = cellsOf(lines[end]).slice(0, head.length);
    while (cells.length < head.length) cells.push('');
    rows.push(cells);
  }
  return [{type: 'table', head, align, rows}, end];
}

// A bar with a backslash, or in code, separates nothing.
function cellsOf(line) {
  const cells = [''];
  let code = false;
  const inner = line.trim().replace(/^\|/, '').replace(/(^|[^\\])\|$/, '$1');
  for (let i = 0; i < inner.length; ++i) {
    if (inner[i] === '\\' && inner[i + 1] === '|') {
      cells[cells.length - 1] += '|';
      ++i;
    } else if (inner[i] === '|' && !code) {
      cells.push('');
    } else {
      if (inner[i] === '`') code = !code;
      cells[cells.length - 1] += inner[i];
    }
  }
  return cells.map((cell) => cell.trim());
}

function paragraphAt(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !startsTable(lines, end) &&
         !(depth < kMostDepth && startsBlock(lines, end))) {
    ++end;
  }
  return [{type: 'paragraph', text: lines.slice(at, end).join('\n')}, end];
}

// --- words -----------------------------------------------------------------------------------------------------------

const kLetter = /[\p{L}\p{N}]/u;
const kPlain = /[^\\\n`*_~[\]!<h]+/y;  // nothing in it means anything
const kAddress = /https?:\/\/[^\s<>"`]+/y;
const kBracketed = /<(https?:\/\/[^\s<>]+)>/y;
const kTarget =
    /\(\s*<?((?:[^\s<>()]|\([^\s<>()]{0,200}\)){0,2000})>?(?:\s+(?:"[^"\n]{0,1000}"|'[^'\n]{0,1000}'))?\s*\)/y;

// Only these lead anywhere.
export function isAddress(text) {
  return /^https?:\/\/[^\s]+$/i.test(text);
}

// A list of texts and {type, nodes | text, href}.
export function inline(text) {
  const frames = [{mark: '', nodes: []}];  // what is open, the innermost last
  const unclosed = new Set();              // lengths of runs of ` that nothing closes
  const put = (node) => {
    const {nodes} = frames.at(-1);
    if (typeof node === 'string' && typeof nodes.at(-1) === 'string') {
      nodes[nodes.length - 1] += node;
    } else if (node !== '') {
      nodes.push(node);
    }
  };
  // What was opened inside and never closed is letters.
  const closeDownTo = (depth) => {
    while (frames.length > depth) {
      const {mark, nodes} = frames.pop();
      put(mark);
      nodes.forEach(put);
    }
  };
  const opened = (...marks) => frames.findLastIndex((frame) => marks.includes(frame.mark));
  const wrap = (depth, type, more = {}) => {
    closeDownTo(depth + 1);
    const {nodes} = frames.pop();
    put({type, nodes, ...more});
  };

  let at = 0;
  while (at < text.length) {
    const c = text[at];
    const plain = match(kPlain, text, at);
    if (plain) {
      put(plain[0]);
      at += plain[0].length;
    } else if (c === '\\' && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) {
      put(text[at + 1]);
      at += 2;
    } else if (c === '\n') {
      put({type: 'break'});
      ++at;
    } else if (c === '`') {
      at = codeIn(text, at, unclosed, put);
    } else if (c === '*' || c === '_' || c === '~') {
      at = emphasis(text, at, {frames, put, opened, wrap});
    } else if ((c === '[' || (c === '!' && text[at + 1] === '[')) && frames.length < kMostMarks) {
      const mark = c === '!' ? '![' : '[';
      frames.push({mark, nodes: []});
      at += mark.length;
    } else if (c === ']' && opened('[', '![') > 0) {
      const depth = opened('[', '![');
      kTarget.lastIndex = at + 1;
      const target = text[at + 1] === '(' ? kTarget.exec(text) : null;
      if (target && isAddress(target[1])) {
        wrap(depth, 'link', {href: target[1]});
        at = kTarget.lastIndex;
      } else {
        closeDownTo(depth);
        put(']');
        ++at;
      }
    } else if (c === '<' && match(kBracketed, text, at)) {
      const [whole, href] = match(kBracketed, text, at);
      put({type: 'link', nodes: [href], href});
      at += whole.length;
    } else if (c === 'h' && !kLetter.test(text[at - 1] ?? ' ') && opened('[', '![') < 0 && match(kAddress, text, at)) {
      const href = withoutEnd(match(kAddress, text, at)[0]);
      put({type: 'link', nodes: [href], href});
      at += href.length;
    } else {
      put(c);
      ++at;
    }
  }
  closeDownTo(1);
  return frames[0].nodes;
}

function match(expression, text, at) {
  expression.lastIndex = at;
  return expression.exec(text);
}

function runAt(text, at) {
  let end = at;
  while (text[end] === text[at]) ++end;
  return end - at;
}

function codeIn(text, at, unclosed, put) {
  const length = runAt(text, at);
  for (let end = at + length; !unclosed.has(length) && end < text.length;) {
    end = text.indexOf('`', end);
    if (end < 0) break;
    const closing = runAt(text, end);
    if (closing === length) {
      const code = text.slice(at + length, end).replaceAll('\n', ' ');
      put({type: 'code', text: /^ .*[^ ].* $/.test(code) ? code.slice(1, -1) : code});
      return end + length;
    }
    end += closing;
  }
  unclosed.add(length);
  put('`'.repeat(length));
  return at + length;
}

function emphasis(text, at, {frames, put, opened, wrap}) {
  const c = text[at];
  const run = runAt(text, at);
  const before = text[at - 1] ?? ' ', after = text[at + run] ?? ' ';
  let opens = !/\s/.test(after), closes = !/\s/.test(before);
  if (c === '_') {
    opens &&= !kLetter.test(before);
    closes &&= !kLetter.test(after);
  }
  let left = run;
  while (left > 0) {
    const marks = c === '~' ? ['~~'] : [c + c, c];
    const depth = closes ? opened(...marks.filter((mark) => mark.length <= left)) : -1;
    if (depth > 0) {
      const {mark} = frames[depth];
      wrap(depth, {'~~': 'struck'}[mark] ?? (mark.length === 2 ? 'strong' : 'emphasis'));
      left -= mark.length;
      continue;
    }
    const mark = marks.find((one) => one.length <= left);
    if (!opens || !mark || run > 3 || frames.length >= kMostMarks) break;
    frames.push({mark, nodes: []});
    left -= mark.length;
  }
  put(c.repeat(left));
  return at + run;
}

// The full stop behind an address belongs to the sentence, a bracket only if it was opened outside.
function withoutEnd(address) {
  let unopened = address.split(')').length - address.split('(').length;
  let end = address.length;
  for (; end > 0 && /[.,;:!?'")\]*_~]/.test(address[end - 1]); --end) {
    if (address[end - 1] !== ')') continue;
    if (unopened <= 0) break;
    --unopened;
  }
  return address.slice(0, end);
}
