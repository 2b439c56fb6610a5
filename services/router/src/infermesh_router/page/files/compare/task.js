// Something long that runs on one lane after the other, and can be stopped. It goes on while another room is shown.
import { html } from "../lib/html.js";
import { createStore, useStore } from "../lib/store.js";
import { endTurn, takeTurn } from "./turn.js";

export function createTask(title) {
  const store = createStore({ at: "", found: null, problems: [] });
  let aborting = null;
  const tell = (at) => store.set({ at });
  const fail = ({ message }) => store.set(({ at, problems }) => ({ problems: [...problems, at ? `${at}: ${message}` : message] }));

  // A lane that fails is told, and the next one has its turn. If the mesh does not answer at all, no lane will do better.
  async function eachLane(lanes, ask) {
    for (const lane of lanes) {
      try {
        await ask(lane);
      } catch (error) {
        if (aborting.signal.aborted || error.code === "unreachable" || error.status === 401) throw error;
        fail(error);
      }
    }
  }

  // `work` gets {signal, tell, show, eachLane}: `tell` says where it is, "" for nowhere; `show` shows what was found so far.
  async function start(work) {
    if (aborting) return; // a second click, before the first one is drawn
    const refusal = takeTurn(title);
    if (refusal) return store.set({ problems: [refusal] });
    aborting = new AbortController();
    const { signal } = aborting;
    store.set({ at: "Starting", found: null, problems: [] });
    try {
      await work({ signal, tell, show: (found) => store.set({ found }), eachLane });
    } catch (error) {
      if (!signal.aborted) {
        tell("");
        fail(error);
      }
    }
    aborting = null;
    endTurn();
    tell("");
  }

  return { start, stop: () => aborting?.abort(), use: () => useStore(store) };
}

export const Problems = ({ list }) =>
  list.length > 0 && html`<div class="ending error" role="alert">${list.map((text) => html`<p key=${text}>${text}</p>`)}</div>`;
