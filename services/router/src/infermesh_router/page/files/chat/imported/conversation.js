// Reads what a file says is a conversation: its messages get new ids, and only known fields are taken.
import { ROOT, newId } from "../tree.js";
import { either, isRecord, or, record, text, time } from "./fields.js";
import { readMessage } from "./message.js";

const PLAIN_ID = /^[\w-]{1,64}$/; // those that stand in the page's address as they are
const TAKEN_ID = "new"; // #/chat/new begins a chat

// `settings`: the names of the settings that a chat has. Throws an Error that says what is wrong.
export function checkConversation(told, settings) {
  if (!isRecord(told) || typeof told.id !== "string" || !isRecord(told.nodes) || !isRecord(told.children)) {
    throw new Error("This file holds no conversations of infermesh.");
  }
  const title = text(told.title) || "Chat";
  const ids = new Map(Object.keys(told.nodes).map((id) => [id, newId()]));
  const read = Object.entries(told.nodes).map(([id, node]) => readNode(id, node, ids, title));
  const nodes = Object.fromEntries(read.map((node) => [node.id, node]));
  const children = childLists(read, told.children, ids);
  if (reached(children) !== read.length) throw new Error(`A message of '${title}' answers none that is there.`);
  const about = record({ created: or(time, Date.now()), updated: or(time, Date.now()), titleChanged: time, settingsChanged: time })(told);
  return {
    ...about, id: PLAIN_ID.test(told.id) && told.id !== TAKEN_ID ? told.id : newId(), title, nodes, children,
    settings: settingsOf(told.settings, settings), chosen: chosenOf(told.chosen, ids),
  };
}

function readNode(id, node, ids, title) {
  const message = readMessage(node);
  if (!message) throw new Error(`A message of '${title}' is neither a user's nor an assistant's.`);
  const parent = node.parent === ROOT ? ROOT : ids.get(node.parent);
  if (id === ROOT || node.id !== id || parent === undefined) throw new Error(`A message of '${title}' answers none that is there.`);
  return { ...message, id: ids.get(id), parent };
}

// The messages below each message, in the file's order where it has one, and in that of their times.
function childLists(nodes, told, ids) {
  const lists = {};
  for (const { id, parent } of [...nodes].sort((a, b) => a.at - b.at)) (lists[parent] ??= []).push(id);
  for (const [old, id] of [[ROOT, ROOT], ...ids]) {
    const listed = Object.hasOwn(told, old) && Array.isArray(told[old]) ? told[old].map((each) => ids.get(each)) : [];
    const places = new Map(listed.map((each, i) => [each, i]));
    lists[id]?.sort((a, b) => (places.get(a) ?? Infinity) - (places.get(b) ?? Infinity) || 0);
  }
  return lists;
}

// How many messages are found from the first ones on; those in a circle are not.
function reached(children) {
  const found = [...(children[ROOT] || [])];
  for (let i = 0; i < found.length; i++) found.push(...(children[found[i]] || []));
  return found.length;
}

function chosenOf(told, ids) {
  if (!isRecord(told)) return {};
  const pairs = Object.entries(told).map(([parent, id]) => [parent === ROOT ? ROOT : ids.get(parent), ids.get(id)]);
  return Object.fromEntries(pairs.filter(([parent, id]) => parent !== undefined && id !== undefined));
}

// What people typed; numbers are written as they would be.
function settingsOf(told, names) {
  const read = record(Object.fromEntries(names.map((name) => [name, either])))(told) || {};
  return Object.fromEntries(Object.entries(read).map(([name, value]) => [name, String(value)]));
}
