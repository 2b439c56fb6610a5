// A trial of a model of tensors that takes no picture: each input's shape and numbers, written by hand.
import { html, useState } from "../../lib/html.js";
import { Begin, Told, useCall } from "../kinds/call.js";
import { infer } from "./kserve.js";
import { Outputs } from "./outputs.js";
import { sizeOf } from "./values.js";

const MOST_ELEMENTS = 1 << 22;

export function PlainTrial({ model, inputs }) {
  const [texts, setTexts] = useState(() => inputs.map(({ shape }) => ({ shape: shape.map((side) => Math.max(1, side)).join(", "), data: "0" })));
  const [state, begin, stop] = useCall();
  const set = (place, part) => setTexts(texts.map((each, i) => (i === place ? { ...each, ...part } : each)));
  const run = (event) => begin(event, async (signal) => infer(model.name, inputs.map((input, i) => read(input, texts[i])), signal));
  return html`
    <form class="stack" onSubmit=${run}>
      <p class="hint">It takes no picture. One number fills a tensor; otherwise write all of them, with commas. Files go through <code>infermesh infer</code>.</p>
      ${inputs.map(({ name, datatype, shape }, i) => html`
        <fieldset key=${name} class="tensor-input"><legend>${name} <span class="hint">${datatype} [${shape.join(", ")}]</span></legend>
          <label class="field"><span>Shape</span><input value=${texts[i].shape} onInput=${(event) => set(i, { shape: event.target.value })} /></label>
          <label class="field"><span>Numbers</span><textarea rows="2" class="code-input" value=${texts[i].data} onInput=${(event) => set(i, { data: event.target.value })}></textarea></label>
        </fieldset>`)}
      <${Begin} label="Run" state=${state} onStop=${stop} />
      <${Told} state=${state} model=${model} />
    </form>
    ${state.result && html`<${Outputs} outputs=${state.result} classifies=${false} />`}
  `;
}

const numbers = (text) => text.split(/[\s,[\]]+/).filter(Boolean).map(Number);

function read({ name, datatype }, { shape, data }) {
  const sides = numbers(shape), values = numbers(data), size = sizeOf(sides);
  if (!sides.every((side) => Number.isInteger(side) && side >= 0) || size > MOST_ELEMENTS) throw new Error(`'${name}' needs a shape of at most ${MOST_ELEMENTS} elements, such as 1, 4.`);
  if (values.some(Number.isNaN)) throw new Error(`'${name}' has something that is no number.`);
  if (values.length !== 1 && values.length !== size) throw new Error(`'${name}' has ${values.length} numbers; its shape needs ${size}.`);
  return { name, datatype, shape: sides, data: values.length === size ? values : Array(size).fill(values[0]) };
}
