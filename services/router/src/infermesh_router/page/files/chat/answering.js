// Sends messages and takes the answers: begins runs, stops them, and keeps what came.
import { keepLeaving } from "../lib/db.js";
import { startRun, keepRun } from "../lib/run.js";
import { createStore } from "../lib/store.js";
import { followTabs, hold, release, save, touch } from "./conversations.js";
import { requestOf } from "./request.js";
import { elsewhere, isMadeElsewhere, tell } from "./tabs/channel.js";
import { changed } from "./tabs/merging.js";
import { addNode } from "./tree.js";

const SAVE_EVERY_MS = 3000;

const running = new Map(); // by the answer's id: {run, drawn, chat}

// The run of an answer that is being made, and the store that says when to draw it again; or undefined.
export const runOf = (id) => running.get(id);

export const isRunning = (conversation) =>
  Object.values(conversation.nodes).some((node) => running.get(node.id)?.run.live || isMadeElsewhere(node));

export function send(conversation, parent, { content, images = [] }) {
  requestOf(conversation, parent); // if the settings are not right, nothing is added
  const question = addNode(conversation, parent, { role: "user", content, ...(images.length ? { images } : {}) });
  return answer(conversation, question.id);
}

// Asks for an answer to the message `parent`: a sibling of those that it has already.
// Throws an Error if the conversation's settings are not right.
export function answer(conversation, parent) {
  const body = requestOf(conversation, parent);
  const { model, device } = conversation.settings;
  const node = addNode(conversation, parent, { role: "assistant", content: "", status: "streaming", model, device });
  return begin(conversation, node, body);
}

// Whether an answer ended before its end, so that the model can write on. With a JSON schema it cannot: workers hold each
// answer to the schema from its first token, so a second document would follow the part of the first.
export const canGoOn = ({ settings }, { content, status, finishReason, toolCalls }) =>
  Boolean(content) && !toolCalls?.length && !settings.schema?.trim() && (status !== "done" || finishReason === "length");

// Asks for the rest of an answer. Throws as `answer` does.
export function goOn(conversation, node) {
  const body = requestOf(conversation, node.parent);
  body.messages.push({ role: "assistant", content: node.content });
  body.continue_final_message = true;
  const { model, device } = conversation.settings;
  changed(node, { status: "streaming", error: "", model, device });
  return begin(conversation, node, body);
}

function begin(conversation, node, body) {
  const drawn = createStore({ version: 0 });
  const run = startRun(body, () => drawSoon(drawn), node);
  running.set(node.id, { run, drawn, chat: conversation.id });
  hold(conversation, node);
  save(conversation);
  touch();
  const saving = setInterval(() => keepPart(conversation, node, run), SAVE_EVERY_MS);
  const leaving = () => {
    changed(node, partOf(run));
    keepLeaving(conversation);
  };
  addEventListener("pagehide", leaving);
  run.ended.then(() => {
    clearInterval(saving);
    removeEventListener("pagehide", leaving);
    keepAnswer(conversation, node, run);
  });
  run.finished.then(() => {
    if (running.get(node.id)?.run !== run) return; // somebody had it go on before its receipt came
    running.delete(node.id);
    release(conversation, node);
    keepAnswer(conversation, node, run);
  });
  return node;
}

function keepAnswer(conversation, node, run) {
  changed(node, keepRun(run));
  save(conversation);
  touch();
}

const partOf = (run) => ({ content: run.text, reasoning: run.reasoning });

function keepPart(conversation, node, run) {
  changed(node, partOf(run));
  save(conversation);
}

// Components draw with the screen, however fast tokens come.
function drawSoon(drawn) {
  if (drawn.waiting) return;
  drawn.waiting = true;
  const draw = () => {
    drawn.waiting = false;
    drawn.set(({ version }) => ({ version: version + 1 }));
  };
  if (document.hidden) setTimeout(draw, 250);
  else requestAnimationFrame(draw);
}

export function stop(conversation) {
  stopById(conversation.id);
  tell("stop", conversation.id); // another tab may be the one that answers
}

// Stops the answers that this tab receives.
export function stopById(id) {
  for (const { run, chat } of running.values()) if (chat === id) run.stop();
}

followTabs(stopById);
elsewhere.subscribe(touch);
