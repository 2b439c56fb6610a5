// The secret of the mesh's owner: `infermesh ui` opens the page with it, and calls about the mesh send it.
import { read, write } from "./saved.js";
import { createStore } from "./store.js";

const BEFORE = "#manage=";
const CALLS = "mesh/v1/";

export const owner = createStore({ secret: read("manage", "") });

export function ownerHeaders(path) {
  const { secret } = owner.get();
  return secret && path.startsWith(CALLS) ? { "x-infermesh-manage-key": secret } : {};
}

// Takes a secret out of the address, where it would be seen and copied.
function take() {
  if (!location.hash.startsWith(BEFORE)) return;
  const secret = decode(location.hash.slice(BEFORE.length));
  history.replaceState(null, "", location.pathname + location.search);
  if (!/^[\x21-\x7e]{1,512}$/.test(secret)) return; // no header could hold it
  write("manage", secret);
  owner.set({ secret });
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

take();
addEventListener("hashchange", take); // the address was opened in a tab that has the page
