// Copies a table as Markdown, which spreadsheets and issues take.
import { html } from "../lib/html.js";
import { copyText } from "../lib/copy.js";

const line = (cells) => `| ${cells.join(" | ")} |`;

export const tableText = (head, rows) => [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");

export const CopyTable = ({ head, rows }) => html`
  <button type="button" onClick=${(event) => copyText(tableText(head, rows), event.currentTarget)}>Copy the table</button>
`;
