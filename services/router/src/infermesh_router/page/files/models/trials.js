// A small trial for each kind of model that the chat is not for.
import { html, useEffect, useState } from "../lib/html.js";
import { call, postJson } from "../lib/api.js";
import { duration, short } from "../lib/format.js";
import { Bars } from "../lib/plots.js";
import { transcribe } from "../lib/sound.js";

export const TRIALS = { embed: Embed, rerank: Rerank, transcribe: Transcribe, speak: Speak, infer: Infer };

// The state of one call: begin(work) runs it and keeps its result, its time or why it failed.
function useCall() {
  const [state, setState] = useState({});
  const begin = async (event, work) => {
    event.preventDefault();
    setState({ busy: true });
    const begun = performance.now();
    try {
      const result = await work();
      setState({ result, tookMs: performance.now() - begun });
    } catch (error) {
      setState({ problem: error.message });
    }
  };
  return [state, begin];
}

const Told = ({ state }) => html`
  <p role="status" class="hint">${state.busy ? "Asking…" : state.tookMs ? `Answered in ${duration(state.tookMs)}` : ""}</p>
  ${state.problem && html`<p class="ending error" role="alert">${state.problem}</p>`}
`;

const Lines = ({ label, value, onInput, rows = 4 }) => html`
  <label class="field"><span>${label}</span><textarea rows=${rows} dir="auto" value=${value} onInput=${(event) => onInput(event.target.value)}></textarea></label>
`;

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function Embed({ model }) {
  const [text, setText] = useState("A cat sleeps on the sofa\nA kitten naps on the couch\nThe stock market fell today");
  const [state, begin] = useCall();
  const ask = async () => {
    const told = await postJson("v1/embeddings", { model: model.name, input: lines(text) });
    return told.data.map((each) => each.embedding);
  };
  const { result } = state;
  const rows = result?.slice(1).map((vector, i) => ({ label: lines(text)[i + 1] ?? "", value: Math.max(0, cosine(result[0], vector)), text: short(cosine(result[0], vector)), color: "var(--accent)" }));
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <${Lines} label="Texts, one a line" value=${text} onInput=${setText} />
      <div class="row end"><button type="submit" class="primary" disabled=${state.busy || !lines(text).length}>Embed</button></div>
      <${Told} state=${state} />
      ${result && html`<p>${result.length} vectors of ${result[0].length} numbers.</p>`}
      ${rows?.length > 0 && html`<${Bars} title="How close to the first line (cosine)" rows=${rows} />`}
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

function Rerank({ model }) {
  const [query, setQuery] = useState("What is the capital of France?");
  const [text, setText] = useState("Berlin is the capital of Germany\nParis is the capital of France\nFrance is known for its cheese");
  const [state, begin] = useCall();
  const ask = () => postJson("v1/rerank", { model: model.name, query, documents: lines(text), return_documents: true });
  const rows = state.result?.results.map((each) => ({
    label: each.document?.text ?? each.document ?? `document ${each.index + 1}`, value: Math.max(0, each.relevance_score), text: short(each.relevance_score), color: "var(--accent)",
  }));
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <label class="field"><span>Question</span><input value=${query} onInput=${(event) => setQuery(event.target.value)} /></label>
      <${Lines} label="Documents, one a line" value=${text} onInput=${setText} />
      <div class="row end"><button type="submit" class="primary" disabled=${state.busy || !lines(text).length}>Rank</button></div>
      <${Told} state=${state} />
      ${rows && html`<${Bars} title="Best first" rows=${rows} />`}
    </form>
  `;
}

function Transcribe({ model }) {
  const [file, setFile] = useState(null);
  const [state, begin] = useCall();
  const ask = () => transcribe(model.name, file);
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <label class="field"><span>Sound</span><input type="file" accept="audio/*" onChange=${(event) => setFile(event.target.files[0])} /></label>
      <div class="row end"><button type="submit" class="primary" disabled=${state.busy || !file}>Transcribe</button></div>
      <${Told} state=${state} />
      ${state.result && html`<p class="trial-text" dir="auto">${state.result.text}</p>`}
    </form>
  `;
}

function Speak({ model }) {
  const [text, setText] = useState("The mesh speaks, and says which device lent its voice.");
  const [voice, setVoice] = useState(model.voices[0] || "");
  const [state, begin] = useCall();
  const ask = async () => {
    const body = { model: model.name, input: text, ...(voice ? { voice } : {}), response_format: "wav" };
    return (await call("v1/audio/speech", { method: "POST", body })).blob();
  };
  const url = useAddress(state.result);
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <${Lines} label="Text" value=${text} onInput=${setText} rows=${3} />
      ${model.voices.length > 0 && html`
        <label class="select"><span class="select-label">Voice</span>
          <select value=${voice} onChange=${(event) => setVoice(event.target.value)}>${model.voices.map((name) => html`<option key=${name}>${name}</option>`)}</select></label>`}
      <div class="row end"><button type="submit" class="primary" disabled=${state.busy || !text.trim()}>Speak</button></div>
      <${Told} state=${state} />
      ${url && html`<audio controls src=${url} aria-label="The speech"></audio>`}
    </form>
  `;
}

// An address of a blob for as long as it is shown; browsers keep blobs until their addresses are given back.
function useAddress(blob) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!blob) return undefined;
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => {
      setUrl("");
      URL.revokeObjectURL(made);
    };
  }, [blob]);
  return url;
}

// Models of tensors need more code than the others together, so it is loaded when one is tried.
function Infer({ model }) {
  const [{ Trial, failed }, setLoaded] = useState({});
  useEffect(() => void import("./tensors/trial.js").then(setLoaded, () => setLoaded({ failed: true })), []);
  if (failed) return html`<p class="ending error" role="alert">The trial could not be loaded: the mesh does not answer. Close this and try again.</p>`;
  return Trial ? html`<${Trial} model=${model} />` : html`<p role="status" class="hint">Loading…</p>`;
}
