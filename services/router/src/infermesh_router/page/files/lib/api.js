// Calls to the mesh: where its API is, the caller's key, errors in words, and server-sent events.
import { ownerHeaders } from "./owner.js";
import { read, write } from "./saved.js";
import { createStore } from "./store.js";

// The page's files are below ROOT/ui/, perhaps in a folder that names their version; the API is beside ui/.
const ROOT = import.meta.url.replace(/ui\/(?:v-[^/]+\/)?lib\/api\.js.*$/, "");

export const address = (path) => ROOT + path;

// The API key, and whether a call was refused for the want of one.
export const access = createStore({ key: read("key", ""), wanted: "" });

export function setKey(key) {
  write("key", key);
  access.set({ key, wanted: "" });
}

export class ApiError extends Error {
  constructor(message, { status = 0, code = "", requestId = "" } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

export const BROKEN = "The connection broke before the answer was complete.";
const UNREACHABLE = "The mesh does not answer. Is it running? `infermesh status` tells.";

// A call; its answer has begun when this returns. Throws ApiError; an aborted call throws AbortError.
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  const key = access.get().key;
  const sent = { ...headers, ...ownerHeaders(path) };
  if (key) sent.authorization = `Bearer ${key}`;
  const plain = body !== undefined && !(body instanceof FormData) && !(body instanceof Blob); // these two say their type
  if (plain) sent["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), {
      method, signal, headers: sent,
      body: plain ? JSON.stringify(body) : body,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE, { code: "unreachable" });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const text = await response.text().catch(() => "");
  const requestId = response.headers.get("x-request-id") || "";
  const error = new ApiError(`The mesh answered ${response.status}.`, { status: response.status, requestId });
  try {
    const told = JSON.parse(text).error ?? JSON.parse(text);
    error.message = typeof told === "string" ? told : told.message || error.message;
    error.code = told.code || told.type || "";
  } catch {
    if (text && text.length < 300) error.message = text;
  }
  if (response.status === 401) access.set({ wanted: error.message });
  return error;
}

export const getJson = async (path, options) => (await call(path, options)).json();
export const postJson = async (path, body, options) => (await call(path, { ...options, method: "POST", body })).json();

// Browsers say this each in their own words.
function broke(error) {
  throw error.name === "AbortError" ? error : new ApiError(BROKEN, { code: "unreachable" });
}

// The events of an answer: {event, data, id}; {id} alone where it has no data, and {comment} for what is said meanwhile.
export async function* serverEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", event = "message", data = [], id = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(broke);
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (let line of lines) {
        if (line.endsWith("\r")) line = line.slice(0, -1);
        if (line === "") {
          if (data.length) yield { event, data: data.join("\n"), id };
          else if (id) yield { id };
          event = "message";
          data = [];
          id = "";
        } else if (line.startsWith(":")) {
          yield { comment: line.slice(1).trim() };
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line.startsWith("event:")) {
          event = line.slice(6).trim();
        } else if (line.startsWith("id:")) {
          id = line.slice(3).trim();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
