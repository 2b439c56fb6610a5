// Puts what several endpoints reported on one axis of time.
import { now } from "../lib/mesh_feed.js";

const SHORTEST_S = 60;

// Not more time than was watched is shown, but a minute at least. lists: for each endpoint its points {time, tokens_per_s}. Snapshots tell all endpoints at once, so times agree.
export function together(lists, span) {
  const to = Math.max(now(), ...lists.map((points) => points.at(-1)?.time || 0));
  const times = [...new Set(lists.flatMap((points) => points.filter(({ time }) => time >= to - span).map(({ time }) => time)))].sort((a, b) => a - b);
  const values = lists.map((points) => {
    const known = new Map(points.map((point) => [point.time, point.tokens_per_s]));
    return times.map((time) => known.get(time) ?? null);
  });
  const from = Math.max(to - span, Math.min(times[0] ?? to, to - SHORTEST_S));
  return { times, values, from, to };
}
