// The conversations of this browser: their list, the one that is open, and how they are kept.
import { forget, keep, readBodies, readBody, readHeads, visitBodies } from "../lib/db.js";
import { load } from "../lib/load.js";
import { createStore } from "../lib/store.js";
import { savedStore } from "../lib/saved.js";
import { download, notify } from "../lib/ui.js";
import { hear, tell } from "./tabs/channel.js";
import { absorb } from "./tabs/merging.js";
import { entitle, newConversation, newId, set } from "./tree.js";

export const DEFAULTS = {
  model: "", device: "", system: "", temperature: "", top_p: "", max_tokens: "", seed: "", stop: "", schema: "", tools: "",
};

// What new conversations begin with: the settings that were used last.
export const lastSettings = savedStore("chat", DEFAULTS);

export const chats = createStore({ heads: [], open: null, version: 0 });

// Conversations with a running answer stay the same objects while others are open.
const inUse = new Map();

// Ids of the answers that this tab makes.
const making = new Set();
const mine = { making: (id) => making.has(id) };

// Draws again what shows the open conversation.
export const touch = () => chats.set(({ version }) => ({ version: version + 1 }));

export async function loadHeads() {
  chats.set({ heads: await readHeads().catch(() => []) });
}

export function startNew() {
  chats.set({ open: newConversation({ ...DEFAULTS, ...lastSettings.get(), system: "", schema: "", tools: "" }) });
}

export async function openConversation(id) {
  if (chats.get().open?.id === id) return true;
  const body = inUse.get(id) || (await readBody(id).catch(() => null));
  if (!body) return false;
  chats.set({ open: body });
  tell("opened", id);
  return true;
}

export async function save(conversation) {
  if (conversation.removed) return; // an answer ended after its chat was deleted
  conversation.updated = Date.now();
  const { id, title, created, updated } = conversation;
  chats.set(({ heads }) => ({
    heads: [{ id, title, created, updated }, ...heads.filter((head) => head.id !== id)],
  }));
  try {
    absorb(conversation, await keep(structuredClone(conversation), (body, kept) => absorb(body, kept, mine)), mine);
    tell("kept", id, { making: Object.keys(conversation.nodes).filter(mine.making) });
  } catch (error) {
    notify(`This browser did not keep the conversation: ${error.message}`, "error");
  }
}

export function hold(conversation, node) {
  inUse.set(conversation.id, conversation);
  making.add(node.id);
}

export function release(conversation, node) {
  making.delete(node.id);
  if (!Object.keys(conversation.nodes).some(mine.making)) inUse.delete(conversation.id);
}

// Follows what other tabs do with the chats; `onStop` is asked to stop the answers of one.
export function followTabs(onStop) {
  hear(async ({ kind, id }) => {
    const here = inUse.get(id) || (chats.get().open?.id === id ? chats.get().open : null);
    if (kind === "stop") return onStop(id);
    if (kind === "opened") return inUse.has(id) && save(here); // who opened it learns that an answer is coming
    if (kind === "removed" && here) return leave(here, onStop);
    if (kind === "kept" && here) {
      const kept = await readBody(id).catch(() => null);
      if (kept) absorb(here, kept, mine);
      touch();
    }
    await loadHeads();
  });
}

// The chat was deleted in another tab.
function leave(conversation, onStop) {
  conversation.removed = true;
  onStop(conversation.id);
  const isOpen = chats.get().open === conversation;
  chats.set(({ heads, open }) => ({ heads: heads.filter(({ id }) => id !== conversation.id), open: isOpen ? null : open }));
  if (!isOpen) return;
  leavePlace(conversation.id);
  notify(`“${conversation.title}” was deleted in another tab.`);
}

// Who looks at this chat goes to a new one; who is in another room stays there.
function leavePlace(id) {
  if (location.hash === `#/chat/${id}`) location.hash = "#/chat";
}

export async function remove(id) {
  for (const body of [inUse.get(id), chats.get().open]) if (body?.id === id) body.removed = true;
  await forget(id);
  tell("removed", id);
  chats.set(({ heads, open }) => ({ heads: heads.filter((head) => head.id !== id), open: open?.id === id ? null : open }));
}

export async function rename(id, title) {
  const body = chats.get().open?.id === id ? chats.get().open : inUse.get(id) || (await readBody(id));
  if (!body || !title.trim()) return;
  entitle(body, title.trim());
  await save(body);
}

export function change(settings) {
  const { open } = chats.get();
  set(open, settings);
  lastSettings.set(settings);
  touch();
  if (Object.keys(open.nodes).length) save(open);
}

export async function exportAll() {
  const conversations = await readBodies();
  download(`infermesh-chats-${new Date().toISOString().slice(0, 10)}.json`, JSON.stringify({ infermesh: 1, conversations }, null, 1));
}

// The ids of the chats in whose messages a text is. Ends when they are no longer wanted.
export async function findInMessages(text, isWanted) {
  const sought = text.toLowerCase(), found = new Set();
  const holds = ({ content, reasoning = "" }) => `${content}\n${reasoning}`.toLowerCase().includes(sought);
  await visitBodies(({ id, nodes }) => {
    if (Object.values(nodes).some(holds)) found.add(id);
    return isWanted();
  });
  return found;
}

// Adds the conversations of a file, and returns how many. One that is here already, as it is in the file, is left out; one
// that has changed since then comes as another one beside it.
export async function importAll(text) {
  let told;
  try {
    told = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
  const all = Array.isArray(told?.conversations) ? told.conversations : [told];
  const { checkConversation } = await load(new URL("./imported/conversation.js", import.meta.url).href).catch(() => {
    throw new Error("The mesh does not answer, and the page needs it to read a file of chats.");
  });
  const checked = all.map((each) => checkConversation(each, Object.keys(DEFAULTS)));
  let added = 0;
  for (const each of checked) {
    const here = await find(each.id);
    if (here && isSame(here, each)) continue;
    tell("kept", (await keep(here ? { ...each, id: newId() } : each)).id);
    added++;
  }
  await loadHeads();
  return { added, known: checked.length - added };
}

const isSame = (one, other) => one.updated === other.updated && Object.keys(one.nodes).length === Object.keys(other.nodes).length;

const find = async (id) => inUse.get(id) || (chats.get().open?.id === id ? chats.get().open : await readBody(id));
