// A table of figures that can be copied: Markdown where text is wanted, cells where a spreadsheet is.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { copyText } from "../lib/copy.js";

const SAID_MS = 1500;

// A column: {title, unit, show, copy}. `show` makes the text of a value; one with `show` is of figures. Copied figures are
// numbers, with the unit in the head; or what `copy` makes of the value. `below`: lines that are copied after the table.
export function FiguresTable({ label, columns, rows, below = [], children, copies = true }) {
  const side = ({ show }) => (show ? "figure" : "");
  return html`
    <div class="table-scroll" tabindex="0" role="region" aria-label=${label}>
      <table class="wide-table">
        <thead><tr>${columns.map((each) => html`<th key=${each.title} scope="col" class=${side(each)}>${each.title}</th>`)}</tr></thead>
        <tbody>${rows.map((row, r) => html`
          <tr key=${r}>${columns.map((each, i) => html`<td key=${i} class=${side(each)}>${each.show ? each.show(row[i]) : row[i]}</td>`)}</tr>`)}
        </tbody>
      </table>
    </div>
    ${children}
    ${copies && html`<div class="row end"><${CopyButton} copied=${() => copied(columns, rows, below)} /></div>`}
  `;
}

function CopyButton({ copied }) {
  const [said, setSaid] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    setSaid((await copyText(...copied())) ? "Copied" : "Not allowed");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(""), SAID_MS);
  };
  return html`<button type="button" onClick=${copy}>${said || "Copy the table"}</button>`;
}

// The table as Markdown and as HTML.
export function copied(columns, rows, below) {
  const head = columns.map(({ title, unit }) => (unit ? `${title} (${unit})` : title));
  const body = rows.map((row) => columns.map(({ copy = plain }, i) => String(copy(row[i]))));
  return [markdown(head, body, below), markup(head, body, below)];
}

function plain(value) {
  if (typeof value !== "number") return value ?? "";
  if (!Number.isFinite(value)) return "";
  return Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(4));
}

const line = (cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |`;

const markdown = (head, body, below) =>
  [line(head), line(head.map(() => "---")), ...body.map(line), ...(below.length ? ["", ...below] : [])].join("\n");

function markup(head, body, below) {
  const table = document.createElement("table");
  const add = (cells, tag) => {
    const row = table.insertRow();
    for (const cell of cells) row.appendChild(document.createElement(tag)).textContent = cell;
  };
  add(head, "th");
  for (const cells of body) add(cells, "td");
  const lines = below.join("\n").split("\n").map((text) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    return paragraph.outerHTML;
  });
  return table.outerHTML + (below.length ? lines.join("") : "");
}
