// A small trial for each kind of model that the chat is not for.
import { html, useEffect, useState } from "../lib/html.js";
import { load } from "../lib/load.js";
import { Speak, Transcribe } from "./kinds/sounds.js";
import { Embed, Rerank } from "./kinds/texts.js";

export const TRIALS = { embed: Embed, rerank: Rerank, transcribe: Transcribe, speak: Speak, infer: Infer };

// Models of tensors need more code than the others together, so it is loaded when one is tried.
function Infer({ model }) {
  const [{ Trial, failed }, setLoaded] = useState({});
  useEffect(() => void load(new URL("./tensors/trial.js", import.meta.url).href).then(setLoaded, () => setLoaded({ failed: true })), []);
  if (failed) return html`<p class="ending error" role="alert">The trial could not be loaded: the mesh does not answer. Close this and try again.</p>`;
  return Trial ? html`<${Trial} model=${model} />` : html`<p role="status" class="hint">Loading…</p>`;
}
