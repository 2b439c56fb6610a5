// The mesh, live: its endpoints, rates over the last minutes, queues, and what happened.
import { html, useMemo, useState } from "../lib/html.js";
import { clock, plural, rate } from "../lib/format.js";
import { mesh } from "../lib/mesh_feed.js";
import { lastRate } from "../lib/mesh_history.js";
import { addStyle } from "../lib/styles.js";
import { Timeline } from "../lib/timeline.js";
import { Empty } from "../lib/ui.js";
import { useCalmly } from "./calm.js";
import { EndpointCard } from "./endpoint.js";
import { EventLog } from "./events.js";
import { Queues } from "./queues.js";
import { lately, linesOf } from "./history.js";
import { ManageHint } from "./managing.js";

await addStyle("mesh");

const SPANS = [{ seconds: 60, label: "1 min" }, { seconds: 300, label: "5 min" }, { seconds: 900, label: "15 min" }];

export function MeshRoom() {
  const { endpoints, queues, log, mayManage, version, history } = useCalmly(mesh);
  if (!endpoints.length) {
    return html`<${Empty} title="No endpoint has joined the mesh yet">infermesh up starts a mesh with a worker for each device of this machine.<//>`;
  }
  const lines = linesOf(endpoints);
  const colors = new Map(lines.flatMap(({ addresses, color }) => addresses.map((address) => [address, color])));
  const cards = html`
    <div class="endpoints" key="endpoints">
      ${endpoints.map((endpoint) => html`
        <${EndpointCard} key=${endpoint.address} endpoint=${endpoint} color=${colors.get(endpoint.address)} history=${history} mayManage=${mayManage} />`)}
    </div>`;
  const happenings = html`
    <div class="happenings" key="happenings">
      <${EventLog} log=${log} />
      <${Queues} queues=${queues} />
    </div>`;
  const many = lines.length < endpoints.length; // so that one need not look for the log below all of them
  return html`
    <div class="page-room">
      <div class="page-head">
        <div><h1>Mesh</h1><p>${summary(endpoints)}</p></div>
      </div>
      <${Rates} lines=${lines} log=${log} version=${version} history=${history} />
      ${!mayManage && html`<${ManageHint} />`}
      ${many ? [happenings, cards] : [cards, happenings]}
    </div>
  `;
}

const NOTABLE = new Set(["draining", "failed", "unreachable", "gone"]);

// What stands on the axis of time for an event, if anything.
function markOf({ event, time, state, before, breaker }) {
  if (event === "failover") return { time, label: "moved", color: "--series-5" };
  if (event === "restart") return { time, label: "restart", color: "--series-3" };
  if (event === "gap") return { time, label: "connected again", color: "--muted" };
  if (event !== "state") return null;
  if (state !== before && NOTABLE.has(state)) return { time, label: state, color: "--series-6" };
  return state === before && breaker === "open" ? { time, label: "breaker open", color: "--series-4" } : null;
}

function summary(endpoints) {
  const running = endpoints.reduce((sum, each) => sum + each.running, 0);
  const loaded = endpoints.flatMap((each) => each.models).filter((model) => model.state === "ready");
  const models = new Set(loaded.map((model) => model.name)).size;
  return `${plural(endpoints.length, "endpoint")}, ${plural(models, "model")} loaded, ${plural(running, "sequence")} running`;
}

const MOST_TOLD = 6;
const listed = (all) => `${all.slice(0, MOST_TOLD).join("; ")}${all.length > MOST_TOLD ? `; and ${all.length - MOST_TOLD} more` : ""}`;

// The plot for those who do not see it: the busiest endpoints, and the last marks.
function inWords(lines, { values, from }, marks, span) {
  const rates = lines
    .map(({ name }, i) => ({ name, now: values[i].at(-1) || 0, most: values[i].reduce((most, each) => Math.max(most, each || 0), 0) }))
    .sort((a, b) => b.most - a.most)
    .map(({ name, now, most }) => `${name} ${rate(now)} now, ${rate(most)} at most`);
  const told = marks.filter(({ time }) => time >= from).reverse().map(({ label, time }) => `${label} at ${clock(time)}`);
  return `Tokens per second over the last ${plural(span / 60, "minute")}. ${listed(rates)}.${told.length ? ` Marked: ${listed(told)}.` : ""}`;
}

function Rates({ lines, log, version, history }) {
  const [span, setSpan] = useState(300);
  const shape = lines.map(({ addresses }) => addresses.join()).join("|");
  const drawn = useMemo(() => lately(history, lines, span), [version, span, shape]);
  const series = lines.map(({ addresses, color }, i) => ({ label: addresses.join(), color: color.slice(4, -1), values: drawn.values[i] }));
  const marks = useMemo(() => log.map(markOf).filter(Boolean), [log]);
  const total = lines.flatMap(({ addresses }) => addresses).reduce((sum, address) => sum + lastRate(history, address), 0);
  return html`
    <section class="card rates">
      <div class="rates-head">
        <h2>Tokens per second</h2>
        <ul class="legend">
          ${lines.map(({ name, color }) => html`<li key=${name}><svg viewBox="0 0 8 8" width="8" height="8" aria-hidden="true"><rect width="8" height="8" rx="2" fill=${color} /></svg>${name}</li>`)}
        </ul>
        <span class="spacer"></span>
        <span class="now">${rate(total)} now</span>
        <div class="spans" role="group" aria-label="Time shown">
          ${SPANS.map(({ seconds, label }) => html`<button type="button" key=${seconds} class="small" aria-pressed=${seconds === span ? "true" : "false"} onClick=${() => setSpan(seconds)}>${label}</button>`)}
        </div>
      </div>
      <${Timeline} times=${drawn.times} series=${series} marks=${marks} from=${drawn.from} to=${drawn.to} top=${10}
        label=${inWords(lines, drawn, marks, span)} format=${(value) => rate(value).replace(" tok/s", "")} />
    </section>
  `;
}
