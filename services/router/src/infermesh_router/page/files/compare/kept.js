// State of this room that is still there after a look at another one. A reload forgets it.
import { useState } from "../lib/html.js";

const kept = new Map();

export function useKept(name, first) {
  const [value, setValue] = useState(kept.has(name) ? kept.get(name) : first);
  return [value, (next) => {
    kept.set(name, next);
    setValue(next);
  }];
}
