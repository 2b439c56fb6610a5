// What endpoints did in the last minutes: points {time, tokens_per_s, generated} for each address.
const KEEP_S = 900;

// Adds what a snapshot tells. `afterBreak`: nobody listened before it, so the rate until then is not known.
export function record(history, endpoints, time, afterBreak) {
  for (const { address, generated_tokens: told } of endpoints) {
    const points = history.get(address) || [];
    history.set(address, points);
    points.push({ time, generated: Number(told), tokens_per_s: rateSince(points.at(-1), time, Number(told), afterBreak) });
  }
  for (const [address, points] of history) { // of those that are gone, too
    const old = points.findIndex((point) => point.time >= time - KEEP_S);
    if (old < 0) history.delete(address);
    else if (old > 0) points.splice(0, old);
  }
}

function rateSince(last, time, generated, afterBreak) {
  if (!last || afterBreak) return null;
  const passed = time - last.time, made = generated - last.generated; // less than before: its engine started anew
  return passed > 0 && made > 0 ? made / passed : 0;
}
