// Copies a table as Markdown, which spreadsheets and issues take.
import { html } from "../lib/html.js";
import { copyText } from "../lib/copy.js";

const line = (cells) => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`;

export const tableText = (head, rows) => [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");

// `below`: lines that are copied after the table.
export const CopyTable = ({ head, rows, below = [] }) => html`
  <button type="button" onClick=${(event) => copyText([tableText(head, rows), ...(below.length ? ["", ...below] : [])].join("\n"), event.currentTarget)}>Copy the table</button>
`;
