// Draws Markdown as it streams: blocks that are complete stay as they are, only the last one is drawn again.
//
// Models' HTML is shown as text, links may lead to http, https and mailto, nothing is loaded from elsewhere, and what
// marked makes passes DOMPurify before it becomes nodes.
import { Marked } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";
import { decorateCode, isColoured, newCode } from "./code.js";
import { escape } from "./escape.js";
import { MARK, showMoves, withMarks } from "./marks.js";
import { MATH, showMath } from "./math.js";

const LONG_BLOCK = 50_000; // characters; longer blocks are shown as plain text
const SAFE_LINK = /^(https?:|mailto:)/i;

const languageOf = ({ lang }) => (lang || "").split(/\s/)[0];

const marked = new Marked({ gfm: true, breaks: true, async: false });
marked.use({
  extensions: MATH,
  renderer: {
    html: ({ text }) => escape(text),
    image: ({ href, text }) =>
      href.startsWith("data:image/") ? `<img src="${escape(href)}" alt="${escape(text)}">` : escape(`${text || "image"} (${href})`),
    link({ href, tokens }) {
      const inner = this.parser.parseInline(tokens);
      return SAFE_LINK.test(href) ? `<a href="${escape(href)}">${inner}</a>` : inner;
    },
    code: ({ text, lang }) => `<pre><code data-language="${escape(languageOf({ lang }))}">${escape(text)}</code></pre>`,
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol",
    "li", "a", "table", "thead", "tbody", "tr", "th", "td", "img", "input",
  ],
  ALLOWED_ATTR: ["href", "src", "alt", "start", "align", "data-language", "data-math", "type", "checked", "disabled"],
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

// Draws a text into an element; give it the longer text each time, and the places where the stream moved.
export class MarkdownView {
  constructor(root) {
    this.root = root;
    this.clear();
  }

  clear() {
    this.root.replaceChildren();
    this.drawn = 0; // the text before this is drawn for good
    this.last = null; // element of the last block, which may change
    this.lastRaw = "";
    this.moveCount = 0;
    this.source = "";
  }

  // `done`: nothing will follow, so that code may be highlighted.
  update(text, moves = [], done = false) {
    if (moves.length !== this.moveCount) {
      this.clear();
      this.moveCount = moves.length;
    }
    this.moves = moves;
    const source = withMarks(text, moves);
    if (source === this.source && !done) return;
    if (this.done && source !== this.source) this.clear(); // it goes on, perhaps in the middle of what is drawn
    this.done = done;
    this.source = source;
    const tail = source.slice(this.drawn);
    if (tail.length > LONG_BLOCK && this.growPlain(tail)) return;
    const tokens = tail.length > 4 * LONG_BLOCK ? roughBlocks(tail) : marked.lexer(tail);
    let open = tokens.length - 1;
    while (open > 0 && tokens[open].type === "space") open--;
    for (let i = 0; i < open; i++) this.finish(tokens[i]);
    const rest = tokens.slice(Math.max(open, 0));
    if (!rest.length) return;
    if (done) for (const token of rest) this.finish(token);
    else this.draw(rest[0], false);
  }

  // The tail is one long block: only its new characters are added.
  growPlain(tail) {
    const node = this.last?.firstChild;
    if (!this.last?.classList.contains("plain") || !tail.startsWith(this.lastRaw)) return false;
    node.appendData(tail.slice(this.lastRaw.length));
    this.lastRaw = tail;
    return true;
  }

  // A block of code whose end is not there yet, or that is too long for colours, gets its new characters only.
  growCode(token, complete) {
    const before = this.last && this.lastCode;
    if (!before || token.type !== "code" || token.lang !== before.lang || !token.text.startsWith(before.text)) return false;
    if (token.text.includes(MARK) || (complete && isColoured(token.text, languageOf(token)))) return false;
    this.last.querySelector("pre > code").firstChild.appendData(token.text.slice(before.text.length));
    this.lastRaw = token.raw;
    this.lastCode = token;
    return true;
  }

  finish(token) {
    this.draw(token, true);
    this.drawn += token.raw.length;
    this.last = null;
    this.lastRaw = "";
  }

  draw(token, complete) {
    if (token.type === "space" || token.type === "def") return;
    if (this.last && token.raw === this.lastRaw && !complete) return;
    if (this.growCode(token, complete)) return;
    const element = drawBlock(token, complete);
    if (this.last) this.last.replaceWith(element);
    else this.root.append(element);
    this.last = element;
    this.lastRaw = token.raw;
    this.lastCode = token.type === "code" ? token : null;
    showMoves(element, this.moves);
  }
}

function drawBlock(token, complete) {
  const block = document.createElement("div");
  block.className = "block";
  block.dir = "auto";
  if (token.type === "code") {
    block.append(newCode(token.text, languageOf(token)));
    decorateCode(block.querySelector("code"), complete);
    return block;
  }
  if (token.raw.length > LONG_BLOCK || token.type === "rough") {
    block.classList.add("plain");
    block.append(document.createTextNode(token.raw));
    return block;
  }
  block.append(DOMPurify.sanitize(marked.parser([token]), ALLOWED));
  for (const link of block.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const box of block.querySelectorAll("li input")) box.setAttribute("aria-label", box.checked ? "Done" : "To do");
  for (const table of block.querySelectorAll("table")) wrapTable(table);
  for (const code of block.querySelectorAll("pre > code")) decorateCode(code, complete);
  if (complete) showMath(block);
  return block;
}

function wrapTable(table) {
  const frame = document.createElement("div");
  frame.className = "table-frame";
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", "Table");
  table.replaceWith(frame);
  frame.append(table);
}

// Of a very long text: pieces between blank lines, shown as plain text of a bearable size each.
function roughBlocks(text) {
  const blocks = [];
  for (let at = 0; at < text.length; at += LONG_BLOCK) blocks.push({ type: "rough", raw: text.slice(at, at + LONG_BLOCK) });
  return blocks;
}
