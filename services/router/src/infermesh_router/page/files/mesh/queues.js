// The queues in which requests wait.
import { html } from "../lib/html.js";
import { count, duration } from "../lib/format.js";

export const Queues = ({ queues }) => html`
  <section class="card queues">
    <h2>Queues</h2>
    ${queues.length
      ? html`
        <table>
          <thead><tr><th>Model</th><th class="figure">Waiting</th><th class="figure">Oldest</th></tr></thead>
          <tbody>${queues.map((queue) => html`
            <tr key=${queue.model}><td>${queue.model || "any"}</td><td class="figure">${count(queue.waiting)} of ${count(queue.limit)}</td><td class="figure">${duration(1000 * queue.oldest_s)}</td></tr>`)}
          </tbody>
        </table>`
      : html`<p class="hint">Nobody waits.</p>`}
  </section>
`;
