// The part of what was recorded that the plot shows, and whose line is whose.
import { now } from "../lib/mesh_feed.js";
import { firstFrom } from "../lib/mesh_history.js";
import { colorOf, COLORS } from "../lib/plots.js";

const SHORTEST_S = 60;

// A line for each endpoint; if there are more than one can tell apart, one for each kind of device: {name, color, addresses}.
export function linesOf(endpoints) {
  if (endpoints.length <= COLORS) return endpoints.map(({ name, address }, i) => ({ name, color: colorOf(i), addresses: [address] }));
  const kinds = Map.groupBy(endpoints, ({ device }) => device?.kind || "unknown");
  return [...kinds].map(([kind, of], i) => ({ name: `${kind} (${of.length})`, color: colorOf(i), addresses: of.map(({ address }) => address) }));
}

// Not more time than was watched is shown, but a minute at least.
export function lately({ times, rates }, lines, span) {
  const to = Math.max(now(), times.at(-1) || 0);
  const at = firstFrom(times, to - span);
  const shown = times.slice(at);
  const values = lines.map(({ addresses }) => total(addresses.map((address) => rates.get(address)).filter(Boolean), at, times.length));
  return { times: shown, values, from: Math.max(to - span, Math.min(shown[0] ?? to, to - SHORTEST_S)), to };
}

function total(all, from, to) {
  const sums = new Array(to - from).fill(null);
  for (const values of all) {
    for (let i = from; i < to; i++) if (values[i] !== null) sums[i - from] += values[i];
  }
  return sums;
}
