// What an empty chat shows: what this is, and prompts to begin with.
import { html } from "../lib/html.js";
import { mesh } from "../lib/mesh_feed.js";
import { listModels } from "../lib/choices.js";
import { useStore } from "../lib/store.js";

const EXAMPLES = [
  { title: "Explain", text: "Explain the difference between concurrency and parallelism, with an example from a kitchen." },
  { title: "Write code", text: "Write a Python function that merges overlapping intervals. Show how to use it." },
  { title: "Compare", text: "Compare TCP and UDP in a table with five rows." },
  { title: "Tell", text: "Tell a short story about a lighthouse keeper who finds a message in a bottle." },
];

export function Welcome({ onPick }) {
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const status = useStore(mesh, (state) => state.status);
  const able = listModels(endpoints, "generate").length > 0;
  return html`
    <div class="welcome">
      <h2>What shall the mesh answer?</h2>
      <p>${sayWhy(status, endpoints, able)}</p>
      <ul class="examples">
        ${EXAMPLES.map(({ title, text }) => html`
          <li key=${title}>
            <button type="button" onClick=${() => onPick(text)} disabled=${!able}>
              <strong>${title}</strong><span>${text}</span>
            </button>
          </li>`)}
      </ul>
    </div>
  `;
}

function sayWhy(status, endpoints, able) {
  if (able) return "Each answer tells which device made it, why that one was chosen, and how fast it was.";
  if (status === "lost") return "The mesh does not answer now. Your chats are still here.";
  if (status === "connecting") return "Asking the mesh what it has…";
  return endpoints.length
    ? "No endpoint has a model that writes text. Import one: infermesh models import SOURCE."
    : "No endpoint has joined the mesh yet.";
}
