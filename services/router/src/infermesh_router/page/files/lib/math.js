// Formulas in Markdown: \(…\), $…$, \[…\] and $$…$$. Their signs are not read as Markdown, and they are set as formulas.
import DOMPurify from "../vendor/purify.js";
import { escape } from "./escape.js";
import { loadScript } from "./load.js";

// As Pandoc has it: a dollar sign that opens is followed by no space, one that closes follows none, and no digit or letter
// comes after it. So prices stay prices.
const IN_LINES = /^(?:\\\(([\s\S]{1,2000}?)\\\)|\\\[([\s\S]{1,2000}?)\\\]|\$\$([^$\n]{1,2000}?)\$\$|\$(?!\s)((?:\\.|[^$\\\n`]){1,500}?)(?<!\s)\$(?!\w))/;
const ALONE = /^ {0,3}(?:\$\$((?:(?!\n[ \t]*\n|\$\$)[\s\S]){1,8000})\$\$|\\\[((?:(?!\n[ \t]*\n|\\\]|(?<!\\)\\\[)[\s\S]){1,8000})\\\])[ \t]*(?:\n+|$)/;

// Where a formula may begin a line of this paragraph, or the paragraph ends: marked asks for each paragraph, with all the
// text that follows it.
const NEXT_LINE = /\n(?: {0,3}(?<begins>\$\$|\\\[)|[ \t]*(?:\n|$)| {0,3}(?:#{1,6}\s|>|```|~~~|[*+-]\s|1[.)]\s|([-*_=])\2{2}))/g;

// The text that marked reads in one go ends before one of these; if another one comes first, it asks again after it.
const PLAIN = /^`*[^\\<![`*_~\n$]*/;

const tokenOf = (type, [raw, ...forms], alone) => ({ type, raw, alone, shown: raw.trim(), formula: forms.find((each) => each !== undefined) });

// Until it is set, and where it cannot be, a formula is shown as it was written.
const renderer = ({ shown, alone }) => `<code data-math="${alone ? "block" : "inline"}">${escape(shown)}</code>`;

// Extensions for marked.
export const MATH = [
  {
    name: "mathInLines", level: "inline", renderer,
    start(text) {
      const { length } = PLAIN.exec(text)[0];
      return /^(?:\$|\\[([])/.test(text.slice(length, length + 2)) ? length : undefined;
    },
    tokenizer(text) {
      const found = IN_LINES.exec(text);
      return found ? tokenOf("mathInLines", found, text[1] === "[" || text.startsWith("$$")) : undefined;
    },
  },
  {
    name: "mathAlone", level: "block", renderer: (token) => `<p>${renderer(token)}</p>`,
    start(text) {
      for (const { index, groups } of text.matchAll(NEXT_LINE)) {
        if (!groups.begins) return undefined;
        if (ALONE.test(text.slice(index + 1))) return index + 1;
      }
      return undefined;
    },
    tokenizer(text) {
      const found = ALONE.exec(text);
      return found ? tokenOf("mathAlone", found, true) : undefined;
    },
  },
];

const SIGNS = /^(?:\$\$?|\\[([])([\s\S]*?)(?:\$\$?|\\[)\]])$/;
// Of macros that a formula defines, a short one makes billions of signs, and maxExpand counts only how often they are used.
const DEFINES = /\\(?:[egx]?def|let|futurelet|globallet|global|long|(?:new|renew|provide)command)(?![a-zA-Z])/;
const MOST_EXPANSIONS = 500; // of the macros that Temml has, in one formula
const MOST_DEPTH = 60; // of formulas within formulas
const MOST_MARKUP = 200_000; // characters
const TOO_LARGE = /="-?\d{3}[\d.]*[a-z]+"/; // what \rule and \hspace ask for
const CLEAN = { USE_PROFILES: { mathMl: true }, ADD_ATTR: ["class"], FORBID_ATTR: ["style", "href", "src"], RETURN_DOM_FRAGMENT: true };
const STYLES = / style="[^"]*"/g; // the page's policy forbids them; styles/text.css has what matters of them
let temml = null;

// Sets the formulas of a block that is complete. What is no formula of LaTeX stays as it was written.
export async function showMath(block) {
  const found = [...block.querySelectorAll("code[data-math]")];
  if (!found.length) return;
  temml ??= loadScript(new URL("../vendor/temml.js", import.meta.url).href).then(() => window.temml);
  const setter = await temml.catch(() => (temml = null));
  if (setter) for (const each of found) if (!each.querySelector(".moved")) set(each, setter);
}

function set(code, setter) {
  const formula = SIGNS.exec(code.textContent)?.[1].trim();
  if (!formula || DEFINES.test(formula) || depthOf(formula) > MOST_DEPTH) return;
  try {
    const made = setter.renderToString(formula, {
      displayMode: code.dataset.math === "block", throwOnError: true, maxExpand: MOST_EXPANSIONS, trust: false,
    });
    if (made.length > MOST_MARKUP || TOO_LARGE.test(made)) return;
    const clean = DOMPurify.sanitize(made.replace(STYLES, ""), CLEAN);
    if (clean.firstElementChild) code.replaceWith(clean);
  } catch {
    // not LaTeX, or something that Temml does not know
  }
}

// How deep braces and pairs of \left and \right are nested.
function depthOf(formula) {
  let depth = 0, most = 0;
  for (const [sign] of formula.matchAll(/\\(?:left|right)(?![a-zA-Z])|\\[\s\S]|[{}]/g)) {
    if (sign === "{" || sign === "\\left") most = Math.max(most, ++depth);
    else if (sign === "}" || sign === "\\right") depth--;
  }
  return most;
}
