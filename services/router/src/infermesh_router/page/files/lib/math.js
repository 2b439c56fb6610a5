// Formulas in Markdown: \(…\), $…$, \[…\] and $$…$$. Their signs are not read as Markdown, and they are set as formulas.
import DOMPurify from "../vendor/purify.js";
import { loadScript } from "./load.js";

// As Pandoc has it: a dollar sign that opens is followed by no space, one that closes follows none, and no digit or letter
// comes after it. So prices stay prices.
const IN_LINES = /^(?:\\\(([\s\S]{1,2000}?)\\\)|\\\[([\s\S]{1,2000}?)\\\]|\$\$([^$\n]{1,2000}?)\$\$|\$(?!\s)((?:\\.|[^$\\\n`]){1,500}?)(?<!\s)\$(?!\w))/;
const ALONE = /^ {0,3}(?:\$\$((?:(?!\n[ \t]*\n)[\s\S]){1,8000}?)\$\$|\\\[((?:(?!\n[ \t]*\n)[\s\S]){1,8000}?)\\\])[ \t]*(?:\n+|$)/;

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const tokenOf = (type, [raw, ...forms], alone) => ({ type, raw, alone, shown: raw.trim(), formula: forms.find((each) => each !== undefined) });

// Until it is set, and where it cannot be, a formula is shown as it was written.
const renderer = ({ shown, alone }) => `<code data-math="${alone ? "block" : "inline"}">${escape(shown)}</code>`;

// Extensions for marked.
export const MATH = [
  {
    name: "mathInLines", level: "inline", renderer,
    start: (text) => text.match(/\$|\\[([]/)?.index,
    tokenizer(text) {
      const found = IN_LINES.exec(text);
      return found ? tokenOf("mathInLines", found, text[1] === "[" || text.startsWith("$$")) : undefined;
    },
  },
  {
    name: "mathAlone", level: "block", renderer: (token) => `<p>${renderer(token)}</p>`,
    start: (text) => text.match(/^ {0,3}(?:\$\$|\\\[)/m)?.index,
    tokenizer(text) {
      const found = ALONE.exec(text);
      return found ? tokenOf("mathAlone", found, true) : undefined;
    },
  },
];

const SIGNS = /^(?:\$\$?|\\[([])([\s\S]*?)(?:\$\$?|\\[)\]])$/;
const MOST_EXPANSIONS = 500; // of macros, in one formula
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
  if (!formula) return;
  try {
    const made = setter.renderToString(formula, {
      displayMode: code.dataset.math === "block", throwOnError: true, maxExpand: MOST_EXPANSIONS, trust: false,
    });
    const clean = DOMPurify.sanitize(made.replace(STYLES, ""), CLEAN);
    if (clean.firstElementChild) code.replaceWith(clean);
  } catch {
    // not LaTeX, or something that Temml does not know
  }
}
