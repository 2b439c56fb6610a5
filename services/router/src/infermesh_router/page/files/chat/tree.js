// A conversation as a tree: each message has a parent, and of its siblings one is chosen. Knows nothing of storage.
export const ROOT = "";

export const newId = () => (crypto.randomUUID ? crypto.randomUUID() : `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`);

export function newConversation(settings) {
  const now = Date.now();
  return { id: newId(), title: "New chat", created: now, updated: now, settings: { ...settings }, nodes: {}, children: {}, chosen: {} };
}

export const childrenOf = (conversation, parent) => conversation.children[parent] || [];

// Adds a message below `parent` and chooses it.
export function addNode(conversation, parent, node) {
  const added = { ...node, id: newId(), parent, at: Date.now() };
  conversation.nodes[added.id] = added;
  (conversation.children[parent] ??= []).push(added.id);
  conversation.chosen[parent] = added.id;
  conversation.updated = added.at;
  if (conversation.title === "New chat" && node.role === "user") conversation.title = titleOf(node.content);
  return added;
}

function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line || "Picture";
}

// The messages that are shown, first to last.
export function pathOf(conversation) {
  const path = [];
  for (let parent = ROOT; ; ) {
    const siblings = childrenOf(conversation, parent);
    const id = siblings.includes(conversation.chosen[parent]) ? conversation.chosen[parent] : siblings.at(-1);
    if (id === undefined) return path;
    path.push(conversation.nodes[id]);
    parent = id;
  }
}

// Which of its siblings a message is: {index, count}.
export function placeAmong(conversation, node) {
  const siblings = childrenOf(conversation, node.parent);
  return { index: siblings.indexOf(node.id), count: siblings.length };
}

export function chooseSibling(conversation, node, step) {
  const siblings = childrenOf(conversation, node.parent);
  const next = siblings[siblings.indexOf(node.id) + step];
  if (next) conversation.chosen[node.parent] = next;
}

// The messages up to and including this one, first to last.
export function ancestry(conversation, id) {
  const found = [];
  for (let node = conversation.nodes[id]; node; node = conversation.nodes[node.parent]) found.unshift(node);
  return found;
}

// Checks what a file says is a conversation. Throws an Error that says what is wrong.
export function checkConversation(told) {
  const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isRecord(told) || typeof told.id !== "string" || !isRecord(told.nodes) || !isRecord(told.children)) {
    throw new Error("This file holds no conversations of infermesh.");
  }
  for (const [id, node] of Object.entries(told.nodes)) {
    if (!isRecord(node) || !["user", "assistant"].includes(node.role) || typeof node.content !== "string") {
      throw new Error(`A message of '${String(told.title)}' is neither a user's nor an assistant's.`);
    }
    if (node.id !== id || !hasBeginning(told.nodes, node)) throw new Error(`A message of '${String(told.title)}' answers none that is there.`);
  }
  return {
    ...told, title: String(told.title || "Chat"), settings: isRecord(told.settings) ? told.settings : {},
    children: childLists(told), chosen: isRecord(told.chosen) ? told.chosen : {}, created: Number(told.created) || Date.now(),
    updated: Number(told.updated) || Date.now(),
  };
}

// Whether the messages before this one lead to a first one, and not in a circle.
function hasBeginning(nodes, node) {
  const met = new Set();
  for (let at = node; at; at = Object.hasOwn(nodes, at.parent) ? nodes[at.parent] : null) {
    if (at.parent === ROOT) return true;
    if (met.has(at.id)) return false;
    met.add(at.id);
  }
  return false;
}

// The messages below each message, in the file's order where it has one, and in that of their times.
function childLists({ nodes, children }) {
  const lists = {};
  const listed = (parent) => (Array.isArray(children[parent]) ? children[parent] : []);
  for (const node of Object.values(nodes).sort((a, b) => (a.at || 0) - (b.at || 0))) (lists[node.parent] ??= []).push(node.id);
  for (const [parent, ids] of Object.entries(lists)) {
    const place = (id) => (listed(parent).includes(id) ? listed(parent).indexOf(id) : Infinity);
    ids.sort((a, b) => place(a) - place(b) || 0);
  }
  return lists;
}
