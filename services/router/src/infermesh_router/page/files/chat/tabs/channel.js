// What the tabs of this browser tell each other: a chat was kept or removed, an answer is being made, stop it.
import { createStore } from "../../lib/store.js";

const ALIVE_MS = 8000; // an answer whose tab is silent for longer is asked for
const ANSWER_MS = 2000; // one that is silent then too has no tab any more

const channel = typeof BroadcastChannel === "function" ? new BroadcastChannel("infermesh.chats") : null;
const makers = new Map(); // by the ids of answers that another tab is believed to make: the timer that will doubt it
export const elsewhere = createStore({ version: 0 });
const redraw = () => elsewhere.set(({ version }) => ({ version: version + 1 }));

// kind: "kept" (with `making`, the ids of answers that this tab makes in it), "removed", "opened" or "stop"; id: the chat's.
export const tell = (kind, id, more = {}) => channel?.postMessage({ kind, id, ...more });

// Calls back with what other tabs tell.
export function hear(listener) {
  if (!channel) return;
  channel.onmessage = ({ data }) => {
    for (const id of data.making || []) believe(id, data.id);
    listener(data);
  };
}

// Hidden tabs keep what comes once a minute only, as browsers slow their timers; but they hear at once.
function believe(id, chat) {
  clearTimeout(makers.get(id));
  const dead = () => {
    makers.delete(id);
    redraw();
  };
  const doubt = () => {
    makers.set(id, setTimeout(dead, ANSWER_MS));
    tell("opened", chat);
  };
  makers.set(id, setTimeout(doubt, ALIVE_MS));
}

// Whether another tab receives this answer now.
export const isMadeElsewhere = (node) => node.status === "streaming" && makers.has(node.id);
