// What the tabs of this browser tell each other: a chat was kept or removed, an answer is being made, stop it.
import { createStore } from "../../lib/store.js";

const ALIVE_MS = 8000; // an answer whose tab is silent for longer has no tab any more

const channel = typeof BroadcastChannel === "function" ? new BroadcastChannel("infermesh.chats") : null;
const makers = new Map(); // by the answer's id: until when another tab is believed to make it
export const elsewhere = createStore({ version: 0 });
const redraw = () => elsewhere.set(({ version }) => ({ version: version + 1 }));

// kind: "kept" (with `making`, the ids of answers that this tab makes in it), "removed", "opened" or "stop"; id: the chat's.
export const tell = (kind, id, more = {}) => channel?.postMessage({ kind, id, ...more });

// Calls back with what other tabs tell.
export function hear(listener) {
  if (!channel) return;
  channel.onmessage = ({ data }) => {
    for (const id of data.making || []) makers.set(id, Date.now() + ALIVE_MS);
    if (data.making?.length) setTimeout(redraw, ALIVE_MS + 100);
    listener(data);
  };
}

// Whether another tab receives this answer now.
export const isMadeElsewhere = (node) => node.status === "streaming" && (makers.get(node.id) || 0) > Date.now();
