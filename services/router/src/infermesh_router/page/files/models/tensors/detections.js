// Detections: the picture with boxes and names drawn, a slider for the lowest score, and the boxes as a table.
import { html, useEffect, useMemo, useRef, useState } from "../../lib/html.js";
import { percent, plural } from "../../lib/format.js";
import { nameOf } from "./names.js";
import { LEAST_SCORE } from "./boxes.js";

const MOST_WIDTH = 1200;

export function Detections({ picture, boxes, list }) {
  const [least, setLeast] = useState(0.5);
  const shown = useMemo(() => boxes.filter(({ score }) => score >= least), [boxes, least]);
  return html`
    <div class="stack">
      <label class="field"><span>Lowest score shown: ${percent(least)}</span>
        <input type="range" min=${LEAST_SCORE} max="0.95" step="0.05" value=${least} aria-valuetext=${percent(least)} onInput=${(event) => setLeast(Number(event.target.value))} /></label>
      <p role="status">${plural(shown.length, "object")} of ${boxes.length}</p>
      <${Drawn} picture=${picture} boxes=${shown} list=${list} />
      ${shown.length > 0 && html`<${Table} picture=${picture} boxes=${shown} list=${list} />`}
    </div>
  `;
}

function Drawn({ picture, boxes, list }) {
  const canvas = useRef(null);
  useEffect(() => draw(canvas.current, picture, boxes, list), [picture, boxes, list]);
  const told = boxes.slice(0, 20).map((box) => nameOf(list, box.label)).join(", ");
  return html`<canvas ref=${canvas} class="drawn" role="img" aria-label=${`The picture with ${plural(boxes.length, "box", "boxes")}${told && `: ${told}`}`}></canvas>`;
}

function draw(canvas, picture, boxes, list) {
  const shrink = Math.min(1, MOST_WIDTH / picture.width);
  [canvas.width, canvas.height] = [Math.round(picture.width * shrink), Math.round(picture.height * shrink)];
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const size = Math.max(12, Math.round(canvas.width / 45));
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  pen.lineWidth = Math.max(2, canvas.width / 300);
  for (const box of [...boxes].reverse()) drawBox(pen, canvas, box, nameOf(list, box.label), size); // the surest on top
}

function drawBox(pen, { width, height }, box, name, size) {
  const hue = (Math.abs(box.label) * 67 + 170) % 360; // classes that stand together differ
  const [left, top] = [box.left * width, box.top * height];
  pen.strokeStyle = pen.fillStyle = `hsl(${hue} 75% 32%)`;
  pen.strokeRect(left, top, (box.right - box.left) * width, (box.bottom - box.top) * height);
  const text = `${name} ${percent(box.score)}`;
  const wide = pen.measureText(text).width + 8, tall = size + 6;
  const x = Math.max(0, Math.min(left, width - wide)), y = top >= tall ? top - tall : top;
  pen.fillRect(x, y, wide, tall);
  pen.fillStyle = "#fff";
  pen.fillText(text, x + 4, y + 4);
}

const Table = ({ picture, boxes, list }) => html`
  <div class="table-scroll" tabindex="0" role="region" aria-label="Boxes">
    <table class="wide-table">
      <thead><tr><th>Object</th><th class="figure">Score</th><th class="figure">Left</th><th class="figure">Top</th><th class="figure">Right</th><th class="figure">Bottom</th></tr></thead>
      <tbody>${boxes.map((box, i) => html`
        <tr key=${i}><td>${nameOf(list, box.label)}</td><td class="figure">${percent(box.score)}</td>
          ${[box.left * picture.width, box.top * picture.height, box.right * picture.width, box.bottom * picture.height]
            .map((value, side) => html`<td key=${side} class="figure">${Math.round(value)}</td>`)}</tr>`)}
      </tbody>
    </table>
  </div>
`;
