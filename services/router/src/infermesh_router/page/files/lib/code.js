// Code blocks: their language, a button that copies, and colours once a block is complete.
import DOMPurify from "../vendor/purify.js";
import { copyFrom } from "./copy.js";

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
let highlighter = null;
const loaded = new Map();

async function language(name) {
  highlighter ??= import("../vendor/highlight/core.js").then((module) => module.default);
  const core = await highlighter;
  if (!loaded.has(name)) {
    loaded.set(name, import(`../vendor/highlight/${name}.js`).then((module) => core.registerLanguage(name, module.default)));
  }
  await loaded.get(name);
  return core;
}

export function decorateCode(code, complete) {
  const told = code.dataset.language || "";
  const name = ALIASES[told.toLowerCase()] || told.toLowerCase();
  const frame = document.createElement("figure");
  frame.className = "code";
  const head = document.createElement("figcaption");
  const label = document.createElement("span");
  label.textContent = told || "text";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet small";
  button.textContent = "Copy";
  button.addEventListener("click", () => copyFrom(button, code.textContent));
  head.append(label, button);
  const pre = code.parentNode;
  pre.tabIndex = 0;
  pre.dir = "ltr";
  pre.replaceWith(frame);
  frame.append(head, pre);
  if (complete && KNOWN.has(name) && code.textContent.length < MOST && !code.textContent.includes("\uE000")) colour(code, name);
}

async function colour(code, name) {
  const core = await language(name).catch(() => null);
  if (!core || code.querySelector(".moved")) return;
  const coloured = core.highlight(code.textContent, { language: name, ignoreIllegals: true }).value;
  code.replaceChildren(
    DOMPurify.sanitize(coloured, { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true }),
  );
}
