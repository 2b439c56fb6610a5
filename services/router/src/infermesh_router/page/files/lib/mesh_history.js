// What endpoints did in the last minutes: their rates in tokens/s, on the axis of the snapshots' times.
const KEEP_S = 900;
const SPARE = 120; // old times go by so many at once, since each time moves all values

export const newHistory = () => ({ times: [], rates: new Map(), told: new Map() });

// Adds what a snapshot tells. `afterBreak`: nobody listened before it, so the rate until then is not known. Where a rate is not known, it is null.
export function record(history, endpoints, time, afterBreak) {
  const { times, rates, told } = history;
  times.push(time);
  for (const { address, generated_tokens: generated } of endpoints) {
    const values = rates.get(address) || new Array(times.length - 1).fill(null);
    values.push(rateSince(told.get(address), time, Number(generated), afterBreak));
    rates.set(address, values);
    told.set(address, { time, generated: Number(generated) });
  }
  for (const values of rates.values()) if (values.length < times.length) values.push(null);
  forget(history, time - KEEP_S);
}

function rateSince(last, time, generated, afterBreak) {
  if (!last || afterBreak) return null;
  const passed = time - last.time, made = generated - last.generated; // less than before: its engine started anew
  return passed > 0 && made > 0 ? made / passed : 0;
}

function forget({ times, rates, told }, before) {
  const old = firstFrom(times, before);
  if (old < SPARE) return;
  times.splice(0, old);
  for (const [address, values] of rates) {
    values.splice(0, old);
    if (told.get(address).time >= times[0]) continue; // else it is gone
    rates.delete(address);
    told.delete(address);
  }
}

export function firstFrom(times, time) {
  const at = times.findIndex((each) => each >= time);
  return at < 0 ? times.length : at;
}

export const lastRate = (history, address) => history.rates.get(address)?.at(-1) || 0;
export const lastRates = (history, address, most) => history.rates.get(address)?.slice(-most) || [];
