// An endpoint: its device, memory, models and load, and what may be done with it.
import { html, useState } from "../lib/html.js";
import { postJson } from "../lib/api.js";
import { bytes, count, duration, percent, rate } from "../lib/format.js";
import { refresh } from "../lib/mesh_feed.js";
import { lastRate, lastRates } from "../lib/mesh_history.js";
import { Spark } from "../lib/plots.js";
import { notify } from "../lib/ui.js";
import { LoadedModels } from "./models.js";

const SPARK_POINTS = 120;
const STATE_DOTS = { ready: "good", loading: "warn", draining: "warn", failed: "bad", unreachable: "bad" };
const BREAKERS = { closed: "", open: "Its circuit breaker is open: it failed lately and is left alone for a while.", half_open: "Its circuit breaker lets one request pass, as a trial." };

export function EndpointCard({ endpoint, color, history, mayManage }) {
  const { device } = endpoint;
  const now = lastRate(history, endpoint.address);
  return html`
    <section class="card endpoint" aria-label=${`Endpoint ${endpoint.name}`}>
      <header>
        <svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true"><rect width="10" height="10" rx="2.5" fill=${color} /></svg>
        <h2>${endpoint.name}</h2>
        <span class="state"><span class=${`dot ${STATE_DOTS[endpoint.state] || ""}`} aria-hidden="true"></span>${endpoint.state}</span>
        <span class="spacer"></span>
        ${mayManage && html`<${DrainButton} endpoint=${endpoint} />`}
      </header>
      <p class="device-name">${device.name || "Its device is not known yet"}</p>
      <p class="address"><code>${endpoint.address}</code><span>${endpoint.runtime}</span></p>
      ${endpoint.message && html`<p class="message">${endpoint.message}</p>`}
      ${BREAKERS[endpoint.breaker] && html`<p class="message">${BREAKERS[endpoint.breaker]}</p>`}
      ${device.memory_total_bytes > 0 && html`<${Meter} label="Memory" used=${device.memory_total_bytes - device.memory_free_bytes} of=${device.memory_total_bytes}
        text=${`${bytes(device.memory_free_bytes)} free of ${bytes(device.memory_total_bytes)}`} />`}
      <${Meter} label="KV cache" used=${endpoint.kv_cache_usage} of=${1} text=${`${percent(endpoint.kv_cache_usage)} in use`} />
      <dl class="figures">
        <${Figure} name="Running" value=${count(endpoint.running)} />
        <${Figure} name="Waiting" value=${count(endpoint.waiting)} />
        <${Figure} name="Done in" value=${duration(1000 * endpoint.drain_s)} title="Seconds to drain: until it has finished all that it has" />
        <${Figure} name="Decode" value=${rate(now)} />
        ${endpoint.failovers > 0 && html`<${Figure} name="Streams moved away" value=${count(endpoint.failovers)} />`}
      </dl>
      <${Spark} values=${lastRates(history, endpoint.address, SPARK_POINTS)} width=${400} height=${34} color=${color} label=${`Tokens per second of ${endpoint.name}: ${rate(now)} now`} />
      <${LoadedModels} endpoint=${endpoint} mayManage=${mayManage} />
    </section>
  `;
}

const Figure = ({ name, value, title }) => html`<div title=${title}><dt>${name}</dt><dd>${value}</dd></div>`;

const Meter = ({ label, used, of, text }) => html`
  <div class="meter">
    <span>${label}</span>
    <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect width="100" height="6" class="bar-track" />
      <rect width=${of ? Math.min(100, (100 * used) / of) : 0} height="6" class="meter-fill" /></svg>
    <span class="meter-text">${text}</span>
  </div>
`;

function DrainButton({ endpoint }) {
  const [busy, setBusy] = useState("");
  const draining = endpoint.state === "draining";
  const verb = draining ? "resume" : "drain"; // a drain may take long, and is ended by a resume meanwhile
  const act = async () => {
    setBusy(verb);
    try {
      const told = await postJson(`mesh/v1/endpoints/${encodeURIComponent(endpoint.address)}:${verb}`, {});
      await refresh();
      notify(draining ? `${endpoint.name} takes requests again.` : `${endpoint.name} takes no new requests${told.moved ? `; ${told.moved} streams were moved` : ""}.`);
    } catch (error) {
      if (error.code !== "resumed") notify(error.message, "error"); // else somebody ended the drain, and saw it
    }
    setBusy("");
  };
  return html`<button type="button" class="small" onClick=${act} disabled=${busy === verb} aria-label=${`${draining ? "Resume" : "Drain"} ${endpoint.name}`}
    title=${draining ? "Take new requests again" : "Take no new requests; running ones end or move"}>${draining ? "Resume" : "Drain"}</button>`;
}
