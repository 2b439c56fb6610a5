// The page's icons: strokes of one weight on a 20 × 20 grid.
import { html } from "./html.js";

const PATHS = {
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  plus: "M10 4v12M4 10h12",
  menu: "M3 5h14M3 10h14M3 15h14",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  edit: "M4 16l1-4 8-8 3 3-8 8-4 1z",
  again: "M16 10a6 6 0 1 1-2-4.5M16 3v3.5h-3.5",
  copy: "M7 7h9v9H7zM4 13V4h9",
  trash: "M4 6h12M8 6V4h4v2M6 6l1 10h6l1-10",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  image: "M3 4h14v12H3zM3 13l4-4 4 4 2-2 4 4M13 7.5h.01",
  mic: "M10 12a2.5 2.5 0 0 0 2.5-2.5v-4a2.5 2.5 0 0 0-5 0v4A2.5 2.5 0 0 0 10 12zM5 9.5a5 5 0 0 0 10 0M10 14.5V17",
  close: "M5 5l10 10M15 5L5 15",
  export: "M10 3v9M6 8l4 4 4-4M4 16h12",
  import: "M10 12V3M6 7l4-4 4 4M4 16h12",
  sun: "M10 13a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM10 2v2M10 16v2M2 10h2M16 10h2M4.5 4.5l1.4 1.4M14.1 14.1l1.4 1.4M4.5 15.5l1.4-1.4M14.1 5.9l1.4-1.4",
  moon: "M16 12A7 7 0 0 1 8 4a7 7 0 1 0 8 8z",
  key: "M7 13a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM10 9.5h7v3M14 9.5V12",
  chat: "M3 4h14v10H9l-4 3v-3H3z",
  compare: "M4 4h5v12H4zM11 4h5v12h-5z",
  mesh: "M10 5L5 14M10 5l5 9M5 14h10M10 6.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM5 15.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM15 15.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z",
  models: "M10 3l7 3.5-7 3.5-7-3.5zM3 10l7 3.5 7-3.5M3 13.5L10 17l7-3.5",
  play: "M6 4l10 6-10 6z",
  pin: "M7 3h6l-1 5 3 3H5l3-3zM10 11v6",
};

export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>
`;
