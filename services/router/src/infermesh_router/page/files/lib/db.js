// What this browser keeps of conversations: IndexedDB, with heads (for lists) apart from bodies.
const NAME = "infermesh", VERSION = 1;
let opening = null;
const memory = { heads: new Map(), bodies: new Map() }; // where the browser has no IndexedDB

function open() {
  opening ??= new Promise((resolve) => {
    let request;
    try {
      request = indexedDB.open(NAME, VERSION);
    } catch {
      resolve(null);
      return;
    }
    request.onupgradeneeded = () => {
      request.result.createObjectStore("heads", { keyPath: "id" });
      request.result.createObjectStore("bodies", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  });
  return opening;
}

// Runs `work` in a transaction over both stores; returns what its request results in.
async function within(mode, work) {
  const database = await open();
  if (!database) return undefined;
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(["heads", "bodies"], mode);
    const request = work(transaction.objectStore("heads"), transaction.objectStore("bodies"));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error || new Error("The browser's store is full."));
  });
}

export async function readHeads() {
  const heads = (await within("readonly", (store) => store.getAll())) ?? [...memory.heads.values()];
  return heads.sort((a, b) => b.updated - a.updated);
}

export const readBody = async (id) =>
  (await open()) ? within("readonly", (_, bodies) => bodies.get(id)) : memory.bodies.get(id);

export const readBodies = async () =>
  (await open()) ? within("readonly", (_, bodies) => bodies.getAll()) : [...memory.bodies.values()];

// Shows `visit` one conversation after the other, until it returns false: all at once they may be very large.
export async function visitBodies(visit) {
  if (!(await open())) return void [...memory.bodies.values()].every((body) => visit(body) !== false);
  await within("readonly", (_, bodies) => {
    const reading = bodies.openCursor();
    reading.onsuccess = () => reading.result && visit(reading.result.value) !== false && reading.result.continue();
  });
}

const headOf = ({ id, title, created, updated }) => ({ id, title, created, updated });

// Keeps a conversation. `join(body, kept)` adds to it what is kept already, in the same transaction, so that what another
// tab kept meanwhile is not lost. Returns the body as it is kept.
export async function keep(body, join = (mine) => mine) {
  memory.heads.set(body.id, headOf(body));
  memory.bodies.set(body.id, body);
  await within("readwrite", (heads, bodies) => {
    const reading = bodies.get(body.id);
    reading.onsuccess = () => {
      const joined = reading.result ? join(body, reading.result) : body;
      heads.put(headOf(joined));
      bodies.put(joined);
    };
    return reading;
  });
  return body;
}

// Keeps it as the page is left: there is no time to read what another tab kept meanwhile, nor to wait.
export async function keepLeaving(body) {
  const database = await open();
  if (!database) return;
  const transaction = database.transaction(["heads", "bodies"], "readwrite");
  transaction.objectStore("heads").put(headOf(body));
  transaction.objectStore("bodies").put(body);
  transaction.commit();
}

export async function forget(id) {
  memory.heads.delete(id);
  memory.bodies.delete(id);
  await within("readwrite", (heads, bodies) => {
    heads.delete(id);
    return bodies.delete(id);
  });
}
