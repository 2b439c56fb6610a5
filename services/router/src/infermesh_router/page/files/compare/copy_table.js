// Copies a table as Markdown, which spreadsheets and issues take.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { copyText } from "../lib/copy.js";

const SAID_MS = 1500;

const line = (cells) => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`;

export const tableText = (head, rows) => [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");

// `below`: lines that are copied after the table.
export function CopyTable({ head, rows, below = [] }) {
  const [said, setSaid] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    const copied = await copyText([tableText(head, rows), ...(below.length ? ["", ...below] : [])].join("\n"));
    setSaid(copied ? "Copied" : "Not allowed");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(""), SAID_MS);
  };
  return html`<button type="button" onClick=${copy}>${said || "Copy the table"}</button>`;
}
