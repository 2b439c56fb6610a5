// The secret of the mesh's owner: `infermesh ui` opens the page with it, and calls about the mesh send it.
import { read, write } from "./saved.js";
import { createStore } from "./store.js";

const BEFORE = "#manage=";
const CALLS = "mesh/v1/";
export const MANAGE_HEADER = "x-infermesh-manage-key";

export const owner = createStore({ secret: read("manage", "") });

export function ownerHeaders(path) {
  const { secret } = owner.get();
  return secret && path.startsWith(CALLS) ? { [MANAGE_HEADER]: secret } : {};
}

// Takes a secret out of the address, where it would be seen and copied. Any site can open the page with a secret of its
// own, so one that we have is replaced only by one that the mesh accepts.
async function take() {
  if (!location.hash.startsWith(BEFORE)) return;
  const secret = decode(location.hash.slice(BEFORE.length));
  history.replaceState(null, "", location.pathname + location.search);
  if (!/^[\x21-\x7e]{1,512}$/.test(secret)) return; // no header could hold it
  const kept = owner.get().secret;
  if (kept && kept !== secret && !(await accepts({ [MANAGE_HEADER]: secret }).catch(() => false))) return;
  keep(secret);
}

export function keep(secret) {
  write("manage", secret);
  owner.set({ secret });
}

// Whether who sends these headers may manage the mesh. Throws if it does not answer.
export async function accepts(headers) {
  const root = import.meta.url.replace(/ui\/(?:v-[^/]+\/)?lib\/owner\.js.*$/, "");
  const answer = await fetch(`${root}${CALLS}endpoints`, { headers });
  return answer.ok && Boolean((await answer.json()).may_manage);
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
