// The lanes' answers beside each other, as Markdown or with their differences marked.
import { html, useLayoutEffect, useMemo, useRef, useState } from "../lib/html.js";
import { duration, rate } from "../lib/format.js";
import { MarkdownView } from "../lib/markdown.js";
import { compareWords, firstDifference } from "./difference.js";

export function Answers({ runs, live }) {
  const [marking, setMarking] = useState(true);
  const base = runs[0].run.text;
  const marked = marking && !live && runs.length > 1;
  return html`
    <section class="stack" aria-label="Answers">
      ${runs.length > 1 && !live && html`
        <label class="row"><input type="checkbox" checked=${marking} onChange=${(event) => setMarking(event.target.checked)} />
          Mark what differs from ${runs[0].lane.name}</label>`}
      <div class="lane-answers">
        ${runs.map(({ lane, run }, i) => html`
          <article class="card lane-answer" key=${lane.id} aria-label=${`Answer of ${lane.name}`} aria-busy=${run.live ? "true" : "false"}>
            <header>
              <svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true"><rect width="10" height="10" rx="2.5" fill=${lane.color} /></svg>
              <h2>${lane.name}</h2>
              <span class="spacer"></span>
              <span class="hint">${progress(run)}</span>
            </header>
            ${run.error && html`<p class="ending error" role="alert">${run.error}</p>`}
            ${marked && run.text ? html`<${Marked} text=${run.text} base=${base} isBase=${i === 0} />` : html`<${Plain} text=${run.text} live=${run.live} />`}
          </article>`)}
      </div>
    </section>
  `;
}

function progress(run) {
  if (run.status === "waiting") return run.note || "waiting";
  if (run.live) return `${run.tokens} tokens`;
  if (run.status === "stopped") return "stopped";
  return run.error ? "failed" : `${rate(run.tokensPerS || 0)}, first token ${duration(run.stats.ttftMs)}`;
}

function Plain({ text, live }) {
  const root = useRef(null), view = useRef(null);
  useLayoutEffect(() => void (view.current = new MarkdownView(root.current)), []);
  useLayoutEffect(() => view.current.update(text, [], !live), [text, live]);
  return html`<div class="text" ref=${root}></div>`;
}

function Marked({ text, base, isBase }) {
  const parts = useMemo(() => (isBase ? [{ text }] : compareWords(base, text)), [text, base, isBase]);
  const at = isBase ? -1 : firstDifference(base, text);
  return html`
    <p class="same-until">${isBase ? "The others are compared with this one." : at < 0 ? "The same, word for word." : `The same for ${at} words.`}</p>
    <div class="text marked-text" dir="auto">${parts.map((part) => (part.differs ? html`<mark>${part.text}</mark>` : part.text))}</div>
  `;
}
