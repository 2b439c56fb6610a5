// A trial of a model of tensors: asks what it takes, and shows the form for that.
import { html, useEffect, useState } from "../../lib/html.js";
import { describe } from "./kserve.js";
import { layoutOf } from "./picture.js";
import { PictureTrial } from "./picture_trial.js";
import { PlainTrial } from "./plain_trial.js";

export function Trial({ model }) {
  const [told, setTold] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => void describe(model.name).then(setTold, (error) => setProblem(error.message)), [model.name]);
  if (problem) return html`<p class="ending error" role="alert">${problem}</p>`;
  if (!told) return html`<p role="status" class="hint">Asking what it takes…</p>`;
  const layout = told.inputs.map(layoutOf).find(Boolean);
  if (!layout) return html`<${PlainTrial} model=${model} inputs=${told.inputs} />`;
  return html`<${PictureTrial} model=${model} layout=${layout} others=${told.inputs.filter((each) => each !== layout.input)} />`;
}
