// One call of a trial: begins, stops and times it, and tells how it stands.
import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { duration, percent } from "../../lib/format.js";
import { mesh } from "../../lib/mesh_feed.js";
import { useStore } from "../../lib/store.js";

// Gives [state, begin, stop]. begin(event, work) runs work(signal) and keeps its result and time, or why it failed.
// Who closes the trial wants no answer, so the call ends with it.
export function useCall() {
  const [state, setState] = useState({});
  const aborting = useRef(null);
  const stop = () => aborting.current?.abort();
  useEffect(() => stop, []);
  const begin = async (event, work) => {
    event.preventDefault();
    aborting.current = new AbortController();
    setState({ busy: true });
    const begun = performance.now();
    try {
      const result = await work(aborting.current.signal);
      setState({ result, tookMs: performance.now() - begun });
    } catch (error) {
      setState(error.name === "AbortError" ? {} : { problem: error.message });
    }
  };
  return [state, begin, stop];
}

// The button that begins the call; while it runs there is one that stops it.
export const Begin = ({ label, state, disabled, onStop }) => html`
  <div class="row end">
    ${state.busy && html`<button type="button" onClick=${onStop}>Stop</button>`}
    <button type="submit" class="primary" disabled=${state.busy || disabled}>${label}</button>
  </div>
`;

export const Told = ({ state, model }) => html`
  ${state.busy ? html`<${Waiting} model=${model} />` : html`<p role="status" class="hint">${state.tookMs === undefined ? "" : `Answered in ${duration(state.tookMs)}`}</p>`}
  ${state.problem && html`<p class="ending error" role="alert">${state.problem}</p>`}
`;

function Waiting({ model }) {
  const loaded = useStore(mesh, ({ endpoints }) => endpoints.some((each) => each.models.some(({ name, state }) => name === model.name && state === "ready")));
  const fraction = useStore(mesh, ({ endpoints }) => fractionOf(endpoints, model.name));
  if (loaded) return html`<p role="status" class="hint">Asking…</p>`;
  return html`
    <p role="status" class="hint">Asking… The mesh loads the model first.</p>
    <progress key=${fraction === undefined} max="1" value=${fraction} aria-label=${`Loading ${model.name}`}>${fraction === undefined ? "" : percent(fraction)}</progress>
  `;
}

function fractionOf(endpoints, name) {
  const loading = endpoints.flatMap(({ models }) => models).filter((each) => each.name === name && each.load_fraction !== undefined);
  return loading.length ? Math.max(...loading.map((each) => each.load_fraction)) : undefined;
}
