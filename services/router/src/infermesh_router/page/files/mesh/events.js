// What happened in the mesh, newest first, in sentences.
import { html, useState } from "../lib/html.js";
import { clock, duration, plural } from "../lib/format.js";
import { endpointName } from "../lib/mesh_feed.js";
import { RequestDialog } from "./request.js";
import { failureInWords, reasonInWords } from "../lib/reasons.js";

const SHOWN = 100;
const KINDS = [
  { name: "all", label: "All" },
  { name: "choice", label: "Choices" },
  { name: "failover", label: "Moves" },
  { name: "state", label: "Endpoints" },
];
const GROUPS = { restart: "state", gap: "state", lost: "state" };
const belongs = ({ event }, kind) => kind === "all" || (GROUPS[event] || event) === kind;

export function EventLog({ log }) {
  const [kind, setKind] = useState("all");
  const [opened, setOpened] = useState("");
  const shown = log.filter((event) => belongs(event, kind)).slice(-SHOWN).reverse();
  return html`
    <section class="card events">
      <div class="rates-head">
        <h2>What happened</h2>
        <span class="spacer"></span>
        <div class="spans" role="group" aria-label="Events shown">
          ${KINDS.map(({ name, label }) => html`<button type="button" key=${name} class="small" aria-pressed=${name === kind ? "true" : "false"} onClick=${() => setKind(name)}>${label}</button>`)}
        </div>
      </div>
      ${shown.length
        ? html`<ol class="log" tabindex="0" aria-label="Events, newest first">${shown.map((event) => html`<${Line} key=${event.id} event=${event} onOpen=${setOpened} />`)}</ol>`
        : html`<p class="hint">Nothing yet. Ask something in the chat.</p>`}
      ${opened && html`<${RequestDialog} requestId=${opened} onClose=${() => setOpened("")} />`}
    </section>
  `;
}

const Line = ({ event, onOpen }) => html`
  <li class=${event.event}>
    <time>${clock(event.time)}</time>
    <p>${sentence(event)}${event.model && event.event !== "restart" && html` <span class="log-model">${event.model}</span>`}${event.request_id && html`
      ${" "}<button type="button" class="link" title="What became of the request" onClick=${() => onOpen(event.request_id)}>receipt</button>`}</p>
  </li>
`;

function sentence(event) {
  const name = endpointName(event.endpoint);
  switch (event.event) {
    case "choice":
      return html`Sent to <strong>${name}</strong>: ${whyChosen(event)}`;
    case "failover":
      return html`Stream moved from <strong>${endpointName(event.from_endpoint)}</strong> to <strong>${endpointName(event.to_endpoint)}</strong> after ${event.after_tokens} tokens: ${failureInWords(event.reason)}`;
    case "restart":
      return event.what === "engine" ? html`The engine of ${event.model} on <strong>${name}</strong> started anew` : html`<strong>${name}</strong> started anew`;
    case "gap":
      return `What happened since ${clock(event.from)} is not known: there was no connection`;
    case "lost":
      return `${event.events ? plural(event.events, "event") : "Some events, perhaps yours,"} came too fast or too long ago to be shown`;
    default:
      return html`${stateInWords(event, name)}${event.message ? `: ${event.message}` : ""}`;
  }
}

const BREAKERS = {
  open: "opened: it failed lately and is left alone for a while",
  half_open: "lets one request pass, as a trial",
  closed: "closed again",
};

function stateInWords({ state, before, breaker, breaker_before: breakerBefore }, name) {
  const was = before === "unknown" ? "" : `, was ${before}`; // it had just joined
  if (!before) return html`<strong>${name}</strong> joined${state === "unknown" ? "" : `, ${state}`}`;
  if (state === before) return html`The circuit breaker of <strong>${name}</strong> ${BREAKERS[breaker]}`;
  if (state === "gone") return html`<strong>${name}</strong> left${was}`;
  const broken = breaker !== breakerBefore ? `, and its circuit breaker ${BREAKERS[breaker]}` : "";
  return html`<strong>${name}</strong> is ${state}${was}${broken}`;
}

// "would be done first, in 0.8 s; cpu: 4.1 s"
function whyChosen({ reason, seconds, runners_up: others }) {
  const words = reasonInWords(reason);
  if (!(seconds > 0)) return words;
  const done = reason === "least_seconds_to_drain" ? `${words}, in` : `${words}; would be done in`;
  const compared = (others || []).map((each) => `; ${endpointName(each.endpoint)}: ${each.seconds > 0 ? duration(1000 * each.seconds) : "not measured"}`);
  return `${done} ${duration(1000 * seconds)}${compared.join("")}`;
}
