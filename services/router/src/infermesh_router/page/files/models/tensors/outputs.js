// What a model gave that is no list of boxes: its surest classes, or a table of tensors with their first numbers.
import { html, useMemo } from "../../lib/html.js";
import { count, percent, short } from "../../lib/format.js";
import { Bars } from "../../lib/plots.js";
import { areProbabilities, softmax } from "./scores.js";
import { sizeOf } from "./values.js";

const MOST_CLASSES = 5, LEAST_CLASSES = 3, MOST_SHOWN = 12;
const LEAST = { UINT8: 0, INT8: -128 }; // what stands for a chance of 0 in the bytes of quantised models

export const Outputs = ({ outputs, classifies }) => html`
  <div class="stack">
    ${classifies && isClasses(outputs) && html`<${Classes} output=${outputs[0]} />`}
    <${Tensors} outputs=${outputs} />
  </div>
`;

// One vector of a picture is taken for the scores of classes.
const isClasses = (outputs) =>
  outputs.length === 1 && typeof outputs[0].data[0] === "number" && outputs[0].data.length >= LEAST_CLASSES && sizeOf(outputs[0].shape) === Math.max(...outputs[0].shape);

function Classes({ output }) {
  const best = useMemo(() => surest(output), [output]);
  const rows = best.map(({ value, label }) => ({ label: `class ${label}`, value, text: percent(value), color: "var(--accent)" }));
  return html`<${Bars} title="If these are scores of classes, the surest" rows=${rows} />`;
}

function surest({ datatype, data }) {
  const scores = Array.from(data);
  const chances = datatype in LEAST ? shares(scores, LEAST[datatype]) : areProbabilities(scores) ? scores : softmax(scores);
  return chances.map((value, label) => ({ value, label })).sort((a, b) => b.value - a.value).slice(0, MOST_CLASSES);
}

// Chances that were rounded to bytes, whose scale the model does not tell.
function shares(scores, least) {
  const sum = scores.reduce((total, value) => total + value - least, 0) || 1;
  return scores.map((value) => (value - least) / sum);
}

const Tensors = ({ outputs }) => html`
  <div class="table-scroll" tabindex="0" role="region" aria-label="Tensors">
    <table class="wide-table">
      <thead><tr><th>Output</th><th>Type</th><th>Shape</th><th class="figure">Least</th><th class="figure">Most</th><th>First values</th></tr></thead>
      <tbody>${outputs.map((each) => html`<${Tensor} key=${each.name} output=${each} />`)}</tbody>
    </table>
  </div>
`;

function Tensor({ output: { name, datatype, shape, data } }) {
  const numbers = typeof data[0] === "number";
  const range = useMemo(() => (numbers ? rangeOf(data) : []), [data]);
  const first = Array.from(data.slice(0, MOST_SHOWN), (value) => (numbers ? short(value).replace(/^-0$/, "0") : JSON.stringify(value))).join(", ");
  return html`
    <tr>
      <td>${name}</td><td>${datatype}</td><td>[${shape.join(", ")}]</td>
      <td class="figure">${numbers ? short(range[0]) : "–"}</td><td class="figure">${numbers ? short(range[1]) : "–"}</td>
      <td class="mono">${first}${data.length > MOST_SHOWN ? `, … (${count(data.length)})` : ""}</td>
    </tr>
  `;
}

const rangeOf = (data) => data.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
