// Trials of models that read texts: how close lines are to the first one, and documents sorted by a question.
import { html, useState } from "../../lib/html.js";
import { postJson } from "../../lib/api.js";
import { count, plural, short } from "../../lib/format.js";
import { Bars } from "../../lib/plots.js";
import { Begin, Told, useCall } from "./call.js";

const MOST_BARS = 50;

export const Lines = ({ label, value, onInput, rows = 4 }) => html`
  <label class="field"><span>${label}</span><textarea rows=${rows} dir="auto" value=${value} onInput=${(event) => onInput(event.target.value)}></textarea></label>
`;

const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

const bar = (label, value) => ({ label, value: Math.max(0, value), text: short(value), color: "var(--accent)" });

const FirstBars = ({ title, rows }) => html`
  <${Bars} title=${rows.length > MOST_BARS ? `${title}, the first ${MOST_BARS} of ${count(rows.length)}` : title} rows=${rows.slice(0, MOST_BARS)} />
`;

export function Embed({ model }) {
  const [text, setText] = useState("A cat sleeps on the sofa\nA kitten naps on the couch\nThe stock market fell today");
  const [state, begin, stop] = useCall();
  const lines = linesOf(text);
  const ask = async (signal) => {
    const told = await postJson("v1/embeddings", { model: model.name, input: lines }, { signal });
    const vectors = told.data.map((each) => each.embedding);
    return { vectors, rows: vectors.slice(1).map((vector, i) => bar(lines[i + 1], cosine(vectors[0], vector))) };
  };
  const { result } = state;
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <${Lines} label="Texts, one a line" value=${text} onInput=${setText} />
      <${Begin} label="Embed" state=${state} disabled=${!lines.length} onStop=${stop} />
      <${Told} state=${state} model=${model} />
      ${result && html`<p>${plural(result.vectors.length, "vector")} of ${count(result.vectors[0].length)} numbers.${result.rows.length ? "" : " Write a second line to see how close the two are."}</p>`}
      ${result?.rows.length > 0 && html`<${FirstBars} title="How close to the first line (cosine)" rows=${result.rows} />`}
    </form>
  `;
}

function cosine(a, b) {
  let dot = 0, left = 0, right = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    left += a[i] * a[i];
    right += b[i] * b[i];
  }
  return dot / Math.sqrt(left * right || 1);
}

export function Rerank({ model }) {
  const [query, setQuery] = useState("What is the capital of France?");
  const [text, setText] = useState("Berlin is the capital of Germany\nParis is the capital of France\nFrance is known for its cheese");
  const [state, begin, stop] = useCall();
  const documents = linesOf(text);
  const ask = async (signal) => {
    const told = await postJson("v1/rerank", { model: model.name, query, documents }, { signal });
    return told.results.map((each) => bar(documents[each.index], each.relevance_score));
  };
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <label class="field"><span>Question</span><input value=${query} onInput=${(event) => setQuery(event.target.value)} /></label>
      <${Lines} label="Documents, one a line" value=${text} onInput=${setText} />
      <${Begin} label="Rank" state=${state} disabled=${!documents.length || !query.trim()} onStop=${stop} />
      <${Told} state=${state} model=${model} />
      ${state.result && html`<${FirstBars} title="Best first" rows=${state.result} />`}
    </form>
  `;
}
