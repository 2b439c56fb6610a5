// A trial of a model that takes a picture: how it becomes a tensor, and what the answer shows of it.
import { html, useMemo, useState } from "../../lib/html.js";
import { Begin, Told, useCall } from "../kinds/call.js";
import { ORDERS, findBoxes } from "./boxes.js";
import { Detections } from "./detections.js";
import { infer } from "./kserve.js";
import { LISTS } from "./names.js";
import { Outputs } from "./outputs.js";
import { SCALES, besides, frameOf, openSides, tensorOf } from "./picture.js";
import { isFloat } from "./values.js";

const FITS = { stretch: { label: "stretch it" }, pad: { label: "keep its shape, pad with grey" } };
const COLORS = { rgb: { label: "red, green, blue" }, bgr: { label: "blue, green, red" } };
const MODEL_KNOWS = { label: "as the outputs look" };
const SIDES = { width: "Width", height: "Height" };
const MOST_SIDE = 2048;

export function PictureTrial({ model, layout, others }) {
  const [how, setHow] = useState({ scale: "unit", order: "rgb", fit: "stretch", width: "", height: "" });
  const [reading, setReading] = useState({ order: "", list: "" });
  const [file, setFile] = useState(null);
  const [state, begin, stop] = useCall();
  const run = (event) => begin(event, (signal) => ask(model, layout, others, file, how, signal));
  return html`
    <form class="stack" onSubmit=${run}>
      <label class="field"><span>Picture</span><input type="file" accept="image/*" onChange=${(event) => setFile(event.target.files[0])} /></label>
      <${Controls} layout=${layout} how=${how} onChange=${(part) => setHow({ ...how, ...part })} />
      <${Begin} label="Run" state=${state} disabled=${!file} onStop=${stop} />
      <${Told} state=${state} model=${model} />
    </form>
    ${state.result && html`<${Answer} result=${state.result} sized=${isSized(others)} reading=${reading} onReading=${(part) => setReading({ ...reading, ...part })} />`}
  `;
}

async function ask(model, layout, others, file, how, signal) {
  const picture = await createImageBitmap(file).catch(() => {
    throw new Error(`This browser cannot read ${file.name} as a picture.`);
  });
  const frame = frameOf(layout, picture, how);
  const inputs = [tensorOf(layout, picture, frame, how), ...besides(others, frame)];
  return { outputs: await infer(model.name, inputs, signal), frame, picture };
}

const isSized = (others) => others.some(({ name }) => name === "orig_target_sizes");

const Controls = ({ layout, how, onChange }) => html`
  <div class="fields">
    ${isFloat(layout.input.datatype) && html`<${Choice} label="Pixels become" value=${how.scale} among=${SCALES} onChange=${(scale) => onChange({ scale })} />`}
    ${layout.channels === 3 && html`<${Choice} label="Colours" value=${how.order} among=${COLORS} onChange=${(order) => onChange({ order })} />`}
    <${Choice} label="To fit the model" value=${how.fit} among=${FITS} onChange=${(fit) => onChange({ fit })} />
    ${openSides(layout).map((side) => html`
      <label class="field" key=${side}><span>${SIDES[side]}</span><input type="number" min="8" max=${MOST_SIDE} placeholder="as the picture's" value=${how[side]}
        onInput=${(event) => onChange({ [side]: event.target.value })} /></label>`)}
  </div>
`;

const Choice = ({ label, value, among, onChange }) => html`
  <label class="field"><span>${label}</span>
    <select value=${value} onChange=${(event) => onChange(event.target.value)}>${Object.entries(among).map(([name, each]) => html`<option key=${name} value=${name}>${each.label}</option>`)}</select></label>
`;

function Answer({ result: { outputs, frame, picture }, sized, reading, onReading }) {
  const found = useMemo(() => findBoxes(outputs, frame, { sized, order: reading.order }), [outputs, frame, sized, reading.order]);
  if (!found) return html`<${Outputs} outputs=${outputs} classifies=${true} />`;
  return html`
    <div class="fields">
      <${Choice} label="Classes are" value=${reading.list || found.list} among=${LISTS} onChange=${(list) => onReading({ list })} />
      <${Choice} label="Boxes are" value=${reading.order} among=${{ "": MODEL_KNOWS, ...ORDERS }} onChange=${(order) => onReading({ order })} />
    </div>
    <p class="hint">Models do not tell what their classes are called. These names are right if it was trained on COCO, as most are.</p>
    <${Detections} picture=${picture} boxes=${found.boxes} list=${reading.list || found.list} />
    <details class="fold"><summary>Tensors</summary><div class="fold-tensors"><${Outputs} outputs=${outputs} classifies=${false} /></div></details>
  `;
}
