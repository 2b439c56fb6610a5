// The lanes' answers beside each other, as Markdown or with their differences marked.
import { html, useLayoutEffect, useMemo, useRef, useState } from "../lib/html.js";
import { duration, plural, rate } from "../lib/format.js";
import { MarkdownView } from "../lib/markdown.js";
import { compareWords, firstDifference } from "./difference.js";

const MOST_MISSING = 60; // longest text that is told of words that are missing, in characters

export function Answers({ runs, live }) {
  const [marking, setMarking] = useState(true);
  const base = runs.find(({ run }) => run.status === "done" && run.text) || runs.find(({ run }) => run.text) || runs[0];
  const several = runs.filter(({ run }) => run.text).length > 1;
  return html`
    <section class="stack" aria-label="Answers">
      ${several && !live && html`
        <label class="row"><input type="checkbox" checked=${marking} onChange=${(event) => setMarking(event.target.checked)} />
          Mark what differs from ${base.lane.name}</label>`}
      <div class="lane-answers">
        ${runs.map(({ lane, run }) => html`
          <article class="card lane-answer" key=${lane.id} aria-label=${`Answer of ${lane.name}`} aria-busy=${run.live ? "true" : "false"}>
            <header>
              <svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true"><rect width="10" height="10" rx="2.5" fill=${lane.color} /></svg>
              <h2>${lane.name}</h2>
              <span class="spacer"></span>
              <span class="hint">${progress(run)}</span>
            </header>
            ${run.error && html`<p class="ending error" role="alert">${run.error}</p>`}
            ${run.reasoning && html`
              <details><summary>${run.live && !run.text ? "Thinking…" : "Thoughts"}</summary><div class="thoughts" dir="auto">${run.reasoning}</div></details>`}
            ${several && marking && !live && run.text
              ? html`<${Marked} run=${run} base=${base.run} />`
              : html`<${Plain} text=${run.text} moves=${run.moves} live=${run.live} />`}
          </article>`)}
      </div>
    </section>
  `;
}

function progress(run) {
  if (run.status === "waiting") return run.note || "waiting";
  if (run.live) return plural(run.tokens, "token");
  if (run.status !== "done") return `${run.status} after ${plural(run.tokens, "token")}`;
  return `${run.tokensPerS ? `${rate(run.tokensPerS)}, ` : ""}first token ${duration(run.stats.ttftMs)}`;
}

function Plain({ text, moves, live }) {
  const root = useRef(null), view = useRef(null);
  useLayoutEffect(() => void (view.current = new MarkdownView(root.current)), []);
  useLayoutEffect(() => view.current.update(text, moves, !live), [text, moves, live]);
  return html`<div class="text" ref=${root}></div>`;
}

function Marked({ run, base }) {
  const { text } = run;
  const isCut = run.status !== "done" && base.text.startsWith(text);
  const parts = useMemo(() => (run === base || isCut ? [{ text, kind: "same" }] : compareWords(base.text, text)), [text, base.text, isCut]);
  return html`
    <p class="same-until">${run === base ? "The others are compared with this one." : isCut ? "The same until it ended." : sameness(base.text, text)}</p>
    <div class="text marked-text" dir="auto">${parts.map(part)}</div>
  `;
}

function sameness(base, text) {
  const at = firstDifference(base, text);
  if (at >= 0) return `The same for ${plural(at, "word")}.`;
  return base === text ? "The same, word for word." : "The same words, with other spaces between.";
}

function part({ text, kind }) {
  if (kind === "same") return text;
  if (kind === "differs") return html`<mark>${text}</mark>`;
  const missing = `Missing here: ${text.length > MOST_MISSING ? `${text.slice(0, MOST_MISSING)}…` : text}`;
  return html`<mark class="missing" role="img" aria-label=${missing} title=${missing}></mark>`;
}
