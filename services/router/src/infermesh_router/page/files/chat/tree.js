// A conversation as a tree: each message has a parent, and of its siblings one is chosen. Knows nothing of storage.
export const ROOT = "";

export const newId = () => (crypto.randomUUID ? crypto.randomUUID() : `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`);

export function newConversation(settings) {
  const now = Date.now();
  return { id: newId(), title: "New chat", created: now, updated: now, settings: { ...settings }, nodes: {}, children: {}, chosen: {} };
}

export const childrenOf = ({ children }, parent) => (Object.hasOwn(children, parent) ? children[parent] : []);

// Adds a message below `parent` and chooses it.
export function addNode(conversation, parent, node) {
  const added = { ...node, id: newId(), parent, at: Date.now() };
  conversation.nodes[added.id] = added;
  (conversation.children[parent] ??= []).push(added.id);
  conversation.chosen[parent] = added.id;
  conversation.updated = added.at;
  if (conversation.title === "New chat" && node.role === "user") entitle(conversation, titleOf(node.content));
  return added;
}

// A time of change that is later than the one before, for states of the same thing in several tabs.
export const laterThan = (before = 0) => Math.max(Date.now(), before + 1);

export function entitle(conversation, title) {
  Object.assign(conversation, { title, titleChanged: laterThan(conversation.titleChanged) });
}

export function set(conversation, settings) {
  Object.assign(conversation.settings, settings);
  conversation.settingsChanged = laterThan(conversation.settingsChanged);
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
