// What was written and not sent, of each chat, until the page is closed.
import { useRef, useState } from "../lib/html.js";

const drafts = new Map();
const EMPTY = { text: "", images: [] };

// Chats without a message share one, so that what is written is still there in the next new chat.
const keyOf = ({ id, nodes }) => (Object.keys(nodes).length ? id : "");

// {text, images}, and what changes it: set({text}) or set((draft) => ({images})).
export function useDraft(conversation) {
  const held = useRef(keyOf(conversation)); // under which key the draft is kept
  const [draft, show] = useState(() => drafts.get(held.current) ?? EMPTY);
  const key = () => (held.current = move(held.current, keyOf(conversation)));
  key();
  const set = (patch) => show((before) => {
    const after = { ...before, ...(typeof patch === "function" ? patch(before) : patch) };
    drafts.set(key(), after);
    return after;
  });
  const clear = () => {
    drafts.delete(key());
    show(EMPTY);
  };
  return { draft, set, clear };
}

// With its first message a chat gets a key of its own, and its draft is no longer that of new chats. Returns the new key.
function move(from, to) {
  if (from !== to && drafts.has(from)) {
    drafts.set(to, drafts.get(from));
    drafts.delete(from);
  }
  return to;
}
