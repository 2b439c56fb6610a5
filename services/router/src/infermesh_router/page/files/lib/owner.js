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

// Takes a secret out of the address, where it would be seen and copied. Any site can open the page with a secret of its
// own, so one that we have is replaced only by one that the mesh accepts.
async function take() {
  if (!location.hash.startsWith(BEFORE)) return;
  const secret = decode(location.hash.slice(BEFORE.length));
  history.replaceState(null, "", location.pathname + location.search);
  if (!/^[\x21-\x7e]{1,512}$/.test(secret)) return; // no header could hold it
  const kept = owner.get().secret;
  if (kept && kept !== secret && !(await accepts(secret))) return;
  write("manage", secret);
  owner.set({ secret });
}

async function accepts(secret) {
  const root = import.meta.url.replace(/ui\/(?:v-[^/]+\/)?lib\/owner\.js.*$/, "");
  try {
    const answer = await fetch(`${root}${CALLS}endpoints`, { headers: { "x-infermesh-manage-key": secret } });
    return answer.ok && Boolean((await answer.json()).may_manage);
  } catch {
    return false;
  }
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
