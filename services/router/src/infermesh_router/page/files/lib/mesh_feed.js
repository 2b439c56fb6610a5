// Follows the mesh's events: endpoints, queues, a log of what happened, and the last minutes of figures.
import { ApiError, access, call, getJson, serverEvents } from "./api.js";
import { owner } from "./owner.js";
import { createStore } from "./store.js";

const KEEP_S = 900;
const MOST_LOG = 300;
const AGAIN_MS = [500, 1000, 2000, 5000];

// status: "connecting", "live" or "lost". imports: newest first. history: by address, a list of {time, tokens_per_s, kv, running, waiting}.
export const mesh = createStore({
  status: "connecting", problem: "", mayManage: false, endpoints: [], queues: [], imports: [], log: [], history: new Map(), version: 0,
});

const failoverListeners = new Set();

// Calls back with each FailoverEvent; returns what ends that.
export function onFailover(listener) {
  failoverListeners.add(listener);
  return () => failoverListeners.delete(listener);
}

export const findEndpoint = (address) => mesh.get().endpoints.find((each) => each.address === address);
export const endpointName = (address) => findEndpoint(address)?.name || address;

// Who made an answer: the endpoint that began it, and those that its stream moved to.
export const endpointNames = (first, moves = []) => [first, ...moves.map(({ to }) => to)].filter(Boolean).map(endpointName).join(" → ");

// Reads endpoints and queues now, for those who just changed something.
export async function refresh() {
  const told = await getJson("mesh/v1/endpoints");
  mesh.set({ endpoints: told.endpoints || [], mayManage: Boolean(told.may_manage) });
}

owner.subscribe(() => refresh().catch(() => {})); // whether the caller may manage; a lost mesh is told of elsewhere

let following = false;

export async function follow() {
  if (following) return;
  following = true;
  for (let failures = 0; ; failures++) {
    try {
      await listen(() => (failures = -1));
      mesh.set({ status: "lost", problem: "The mesh closed the stream of events." });
    } catch (error) {
      mesh.set({ status: "lost", problem: error.message });
      if (error instanceof ApiError && error.status === 401) await keyGiven();
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS[Math.min(Math.max(failures, 0), AGAIN_MS.length - 1)]));
  }
}

function keyGiven() {
  return new Promise((resolve) => {
    const stop = access.subscribe(({ key, wanted }) => {
      if (!key || wanted) return;
      stop();
      resolve();
    });
  });
}

async function listen(connected) {
  await refresh();
  const response = await call("mesh/v1/events", { headers: { accept: "text/event-stream" } });
  mesh.set({ status: "live", problem: "", log: [] });
  connected();
  let kept = []; // events come in bursts, so they are put into the store together
  let due = 0;
  const flush = () => {
    due = 0;
    const news = kept;
    kept = [];
    mesh.set((state) => ({ log: [...state.log, ...news].slice(-MOST_LOG) }));
  };
  for await (const { event, data } of serverEvents(response)) {
    if (data === undefined) continue;
    const told = JSON.parse(data);
    if (event === "snapshot") {
      take(told);
      continue;
    }
    if (event === "lost") continue;
    kept.push({ ...told, event });
    due ||= setTimeout(flush, 50);
    if (event === "failover") for (const listener of [...failoverListeners]) listener(told);
  }
}

function take({ endpoints, queues, imports = [], time }) {
  const { history, version } = mesh.get();
  for (const endpoint of endpoints) {
    const points = history.get(endpoint.address) || [];
    history.set(endpoint.address, points);
    const generated = Number(endpoint.generated_tokens);
    const last = points.at(-1);
    const passed = last ? time - last.time : 0;
    const made = last ? generated - last.generated : 0;
    points.push({
      time, generated,
      tokens_per_s: passed > 0 && made > 0 ? made / passed : 0,
      kv: endpoint.kv_cache_usage, running: endpoint.running, waiting: endpoint.waiting,
    });
    while (points.length && points[0].time < time - KEEP_S) points.shift();
  }
  mesh.set({ endpoints, queues, imports, version: version + 1 });
}
