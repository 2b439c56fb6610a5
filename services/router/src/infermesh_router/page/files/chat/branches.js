// Goes from one branch of a conversation to its siblings.
import { html } from "../lib/html.js";
import { IconButton } from "../lib/ui.js";
import { isRunning } from "./answering.js";
import { save, touch } from "./conversations.js";
import { chooseSibling, placeAmong } from "./tree.js";

export function Branches({ conversation, node }) {
  const { index, count } = placeAmong(conversation, node);
  if (count < 2) return null;
  const go = (step) => () => {
    chooseSibling(conversation, node, step);
    touch();
    if (!isRunning(conversation)) save(conversation);
  };
  return html`
    <span class="branches" role="group" aria-label="Branches">
      <${IconButton} icon="left" label="Earlier branch" disabled=${index === 0} onClick=${go(-1)} />
      <span>${index + 1} / ${count}</span>
      <${IconButton} icon="right" label="Later branch" disabled=${index === count - 1} onClick=${go(1)} />
    </span>
  `;
}
