// Code blocks: their language, a button that copies, and colours once a block is complete.
import DOMPurify from "../vendor/purify.js";
import { copyFrom } from "./copy.js";
import { load } from "./load.js";
import { MARK, textWithoutMarks } from "./marks.js";

const ALIASES = {
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", "c++": "cpp", h: "c", hpp: "cpp", golang: "go", js: "javascript",
  jsx: "javascript", mjs: "javascript", node: "javascript", json5: "json", jsonc: "json", md: "markdown", py: "python",
  python3: "python", rs: "rust", ts: "typescript", tsx: "typescript", html: "xml", svg: "xml", yml: "yaml", patch: "diff",
};
const KNOWN = new Set([
  "bash", "c", "cpp", "css", "diff", "go", "java", "javascript", "json", "markdown", "python", "rust", "sql", "typescript",
  "xml", "yaml",
]);
const MOST = 30_000; // characters that are coloured

const parts = new Map(); // of the highlighter: its core and the languages, as promises

// One that could not come is asked for again.
function part(name) {
  if (!parts.has(name)) {
    const url = new URL(`../vendor/highlight/${name}.js`, import.meta.url).href;
    const coming = load(url).then((module) => module.default);
    coming.catch(() => parts.delete(name));
    parts.set(name, coming);
  }
  return parts.get(name);
}

async function language(name) {
  const core = await part("core");
  const grammar = await part(name);
  if (!core.getLanguage(name)) core.registerLanguage(name, grammar);
  return core;
}

const nameOf = (told) => ALIASES[told.toLowerCase()] || told.toLowerCase();

// Whether code gets colours once it is complete.
export const isColoured = (text, language) => text.length < MOST && KNOWN.has(nameOf(language));

// A block of code as the renderer makes it; its text is one node, which may grow.
export function newCode(text, language) {
  const pre = document.createElement("pre"), code = document.createElement("code");
  code.dataset.language = language;
  code.append(document.createTextNode(text));
  pre.append(code);
  return pre;
}

export function decorateCode(code, complete) {
  const told = code.dataset.language || "";
  const frame = document.createElement("figure");
  frame.className = "code";
  const head = document.createElement("figcaption");
  const label = document.createElement("span");
  label.textContent = told || "text";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet small";
  button.textContent = "Copy";
  button.addEventListener("click", () => copyFrom(button, textWithoutMarks(code)));
  head.append(label, button);
  const pre = code.parentNode;
  pre.tabIndex = 0;
  pre.dir = "ltr";
  pre.replaceWith(frame);
  frame.append(head, pre);
  if (complete && isColoured(code.textContent, told) && !code.textContent.includes(MARK)) colour(code, nameOf(told));
}

async function colour(code, name) {
  const core = await language(name).catch(() => null);
  if (!core || code.querySelector(".moved")) return;
  const coloured = core.highlight(code.textContent, { language: name, ignoreIllegals: true }).value;
  code.replaceChildren(
    DOMPurify.sanitize(coloured, { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true }),
  );
}
