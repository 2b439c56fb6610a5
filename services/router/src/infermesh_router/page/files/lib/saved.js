// Settings that this browser keeps: small values in localStorage, or in memory where a browser has none.
import { createStore } from "./store.js";

const BEFORE = "infermesh.";

export function read(name, otherwise) {
  try {
    const text = localStorage.getItem(BEFORE + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function write(name, value) {
  try {
    if (value === undefined || value === null || value === "") localStorage.removeItem(BEFORE + name);
    else localStorage.setItem(BEFORE + name, JSON.stringify(value));
  } catch {
    // kept for this visit only
  }
}

// A store whose state is kept under a name.
export function savedStore(name, initial) {
  const store = createStore({ ...initial, ...read(name, {}) });
  store.subscribe((state) => write(name, state));
  return store;
}
