// What was written and not sent, of each chat, until the page is closed.
import { useState } from "../lib/html.js";

const drafts = new Map();
const EMPTY = { text: "", images: [] };

// Chats without a message share one, so that what is written is still there in the next new chat.
const keyOf = ({ id, nodes }) => (Object.keys(nodes).length ? id : "");

// {text, images}, and what changes it: set({text}) or set((draft) => ({images})).
export function useDraft(conversation) {
  const key = keyOf(conversation); // as drawn: who sends a first message clears that of new chats
  const [draft, show] = useState(() => drafts.get(key) ?? EMPTY);
  const set = (patch) => show((before) => {
    const after = { ...before, ...(typeof patch === "function" ? patch(before) : patch) };
    drafts.set(key, after);
    return after;
  });
  const clear = () => {
    drafts.delete(key);
    show(EMPTY);
  };
  return { draft, set, clear };
}
