// Follows the mesh's events: endpoints, queues, a log of what happened, and the last minutes of figures.
import { ApiError, access, call, getJson, serverEvents } from "./api.js";
import { newHistory, record } from "./mesh_history.js";
import { owner } from "./owner.js";
import { createStore } from "./store.js";

const MOST_LOG = 300;
const AGAIN_MS = [500, 1000, 2000, 5000];
const SILENT_MS = 15_000; // snapshots come every 5 s at least, so the stream is dead by then

// status: "connecting", "live" or "lost". imports: newest first. history: see mesh_history.js; version: how often it grew.
export const mesh = createStore({
  status: "connecting", problem: "", mayManage: false, endpoints: [], queues: [], imports: [], log: [], history: newHistory(), version: 0,
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
export async function refresh(options) {
  const told = await getJson("mesh/v1/endpoints", options);
  mesh.set({ endpoints: told.endpoints || [], mayManage: Boolean(told.may_manage) });
}

let following = false;
let lastId = ""; // of the last event: a new connection goes on after it
let heardAt = 0; // the mesh's time when it was last heard
let leave = () => {}; // ends the connection there is, or the wait for the next one

export async function follow() {
  if (following) return;
  following = true;
  for (let failures = 0; ; failures++) {
    const sent = credentials();
    try {
      await listen(() => (failures = -1));
      mesh.set({ status: "lost", problem: "The mesh closed the stream of events." });
    } catch (error) {
      mesh.set({ status: "lost", problem: error.message });
      if (error instanceof ApiError && error.status === 401) {
        await otherCredentials(sent);
        continue;
      }
    }
    await pause(AGAIN_MS[Math.min(Math.max(failures, 0), AGAIN_MS.length - 1)]);
  }
}

// Waits, but not for a network that is back, or a reader who is.
function pause(ms) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      removeEventListener("online", over);
      document.removeEventListener("visibilitychange", over);
      resolve();
    };
    const timer = setTimeout(over, ms);
    leave = over;
    addEventListener("online", over);
    document.addEventListener("visibilitychange", over);
  });
}

// Waits until there is another key or secret than those that were refused.
function otherCredentials(refused) {
  return new Promise((resolve) => {
    const stops = [access, owner].map((store) => store.subscribe(look));
    look();
    function look() {
      if (credentials() === refused) return;
      for (const stop of stops) stop();
      resolve();
    }
  });
}

// Ends a call that says nothing for long: after a sleep, or when a router hangs, no connection is closed.
function watchdog() {
  const aborting = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => aborting.abort(), SILENT_MS);
  };
  heard();
  return { signal: aborting.signal, heard, end: () => aborting.abort(), stop: () => clearTimeout(timer) };
}

// Another key or secret may show more, or less.
function startOver() {
  lastId = "";
  news = [];
  mesh.set({ log: [] });
  leave();
}
const credentials = () => `${access.get().key} ${owner.get().secret}`;
let used = credentials();
for (const store of [access, owner]) {
  store.subscribe(() => {
    if (used === credentials()) return;
    used = credentials();
    startOver();
  });
}

async function listen(connected) {
  const dog = watchdog();
  let left = false;
  leave = () => {
    left = true;
    dog.end();
  };
  const headers = { accept: "text/event-stream", ...(lastId && { "last-event-id": lastId }) };
  try {
    await refresh({ signal: dog.signal });
    await read(await call("mesh/v1/events", { headers, signal: dog.signal }), dog.heard, connected);
  } catch (error) {
    if (left) return listen(connected);
    if (dog.signal.aborted) throw new ApiError("The mesh fell silent.");
    throw error;
  } finally {
    dog.stop();
  }
}

async function read(response, heard, connected) {
  const before = { id: lastId, at: heardAt };
  let isFirst = true;
  mesh.set({ status: "live", problem: "" });
  connected();
  for await (const { event, data, id } of serverEvents(response)) {
    heard();
    lastId = id || lastId;
    if (data === undefined) continue;
    const told = JSON.parse(data);
    if (before.id && id && !goesOn(before.id, id)) {
      note({ event: "gap", id: `gap ${id}`, from: before.at, time: told.time });
      before.id = "";
    }
    if (event === "snapshot") {
      before.id = ""; // by now the router itself was heard: snapshots are its own
      take(told, isFirst);
      isFirst = false;
    } else {
      note({ ...told, event, id });
    }
  }
}

const journals = (id) => (id || "").split(",").map((each) => each.split("-")[0]);

// Whether one who had the first id was told all until the second: not by a router that has started again. The last
// name is of the router that tells; the others are those that the listener named, who may be gone.
const goesOn = (before, now) => journals(before).includes(journals(now).at(-1));

let news = []; // events come in bursts, so they are put into the store together
let due = 0;

function note(event) {
  if (event.event === "lost") event = { ...event, time: now(), id: `lost ${performance.now()}` };
  news.push(event);
  if (news.length > 2 * MOST_LOG) news = news.slice(-MOST_LOG); // timers of hidden tabs may wait for a minute
  due ||= setTimeout(flush, 50);
  if (event.event === "failover") for (const listener of [...failoverListeners]) listener(event);
}

function flush() {
  due = 0;
  const added = news;
  news = [];
  mesh.set((state) => ({ log: [...state.log, ...added].slice(-MOST_LOG) }));
}

let ahead = 0; // by how much the mesh's clock is ahead of this browser's, in seconds

// The mesh's time, in seconds since 1970.
export const now = () => Date.now() / 1000 + ahead;

function take({ endpoints, queues, imports = [], time }, afterBreak) {
  const { history, version } = mesh.get();
  ahead = time - Date.now() / 1000;
  heardAt = time;
  record(history, endpoints, time, afterBreak);
  mesh.set({ endpoints, queues, imports, version: version + 1 });
}
