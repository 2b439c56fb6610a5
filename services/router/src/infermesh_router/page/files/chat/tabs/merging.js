// Puts two states of one conversation together, as two tabs have them. Knows nothing of storage.
import { laterThan } from "../tree.js";

// Marks a message as changed now, so that this state of it is the newer one.
export function changed(node, values) {
  return Object.assign(node, values, { changed: laterThan(node.changed) });
}

// Takes into `mine` what only `theirs` has. Messages are never removed, so no tab loses one; of a message that both have
// the state that changed last stays, except those that this tab is `making`; so does of the title and of the settings.
export function absorb(mine, theirs, { making = () => false } = {}) {
  for (const [id, node] of Object.entries(theirs.nodes)) {
    const known = mine.nodes[id];
    if (!known) mine.nodes[id] = node;
    else if (!making(id) && when(node) > when(known)) Object.assign(known, node);
  }
  for (const [parent, ids] of Object.entries(theirs.children)) {
    const all = new Set([...(mine.children[parent] || []), ...ids]);
    mine.children[parent] = [...all].filter((id) => mine.nodes[id]).sort((a, b) => (mine.nodes[a].at || 0) - (mine.nodes[b].at || 0));
  }
  mine.chosen = { ...theirs.chosen, ...mine.chosen }; // each tab stays at the branch that it shows
  for (const [part, stamp] of Object.entries(STAMPS)) {
    if ((theirs[stamp] || 0) > (mine[stamp] || 0)) Object.assign(mine, { [part]: theirs[part], [stamp]: theirs[stamp] });
  }
  mine.updated = Math.max(mine.updated, theirs.updated);
  return mine;
}

const STAMPS = { title: "titleChanged", settings: "settingsChanged" };

const when = (node) => node.changed || node.at || 0;
