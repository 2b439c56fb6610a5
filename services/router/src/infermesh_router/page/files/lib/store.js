// Small observable values, and the hook with which components follow them.
import { useLayoutEffect, useState } from "./html.js";

export function createStore(state) {
  const listeners = new Set();
  return {
    get: () => state,
    set(patch) {
      state = { ...state, ...(typeof patch === "function" ? patch(state) : patch) };
      for (const listener of [...listeners]) listener(state);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

const same = (state) => state;

// The selected part of a store's state. The component is drawn again when that part is another value.
export function useStore(store, select = same) {
  const [, setPart] = useState(() => ({ value: select(store.get()) }));
  useLayoutEffect(() => {
    let last = select(store.get());
    setPart((part) => (Object.is(part.value, last) ? part : { value: last }));
    return store.subscribe((state) => {
      const next = select(state);
      if (Object.is(next, last)) return;
      last = next;
      setPart({ value: next });
    });
  }, [store]);
  return select(store.get());
}
