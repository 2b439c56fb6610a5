// Marks in a text that tell where its stream moved to another device.
export const MARK = "\uE000"; // stands in the text where a stream moved

// Marks stand at the next white space, so that they do not cut words, and not on lines that are signs of Markdown's own
// (fences, rows of tables, rules): those come after them.
const SIGNS = /^\s*(```|~~~|\||[-=*_]{3,}\s*$)/;

function placeOf(text, offset, from) {
  let at = Math.max(offset, from);
  while (at < text.length && at < offset + 40 && !/\s/.test(text[at])) at++;
  for (;;) {
    const line = text.lastIndexOf("\n", at - 1) + 1;
    if (line <= from || !SIGNS.test(text.slice(line, at))) return at;
    at = line - 1;
  }
}

export function withMarks(text, moves) {
  const clean = text.includes(MARK) ? text.replaceAll(MARK, "\uFFFD") : text;
  if (!moves.length) return withNewlines(clean);
  let result = "", from = 0;
  for (const { offset } of moves) {
    const at = placeOf(clean, offset, from);
    result += clean.slice(from, at) + MARK;
    from = at;
  }
  return withNewlines(result + clean.slice(from));
}

// As marked's lexer has them: the lengths of its tokens are those of what is drawn.
const withNewlines = (text) => (text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text);

export function showMoves(element, moves) {
  if (!moves?.length || !element.textContent.includes(MARK)) return;
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) if (walker.currentNode.data.includes(MARK)) found.push(walker.currentNode);
  let index = element.parentNode ? element.parentNode.querySelectorAll(".moved").length : 0;
  for (const node of found) {
    const parts = node.data.split(MARK);
    const nodes = [parts[0]];
    for (const part of parts.slice(1)) nodes.push(moveMark(moves[Math.min(index++, moves.length - 1)]), part);
    node.replaceWith(...nodes);
  }
}

function moveMark({ label, title }) {
  const mark = document.createElement("span");
  mark.className = "moved";
  mark.title = title || "";
  mark.textContent = label || "moved";
  return mark;
}

// The text of an element without the marks in it.
export function textWithoutMarks(element) {
  const copy = element.cloneNode(true);
  for (const mark of copy.querySelectorAll(".moved")) mark.remove();
  return copy.textContent;
}
