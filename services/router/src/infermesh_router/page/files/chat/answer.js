// An answer: its text as it streams, reasoning and tool calls folded, and below it how it came about.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { copyText } from "../lib/copy.js";
import { MarkdownView } from "../lib/markdown.js";
import { endpointName } from "../lib/mesh_feed.js";
import { failureInWords } from "../lib/reasons.js";
import { Receipt } from "../lib/receipt.js";
import { IconButton, notify } from "../lib/ui.js";
import { answer, canGoOn, goOn, isRunning, runOf } from "./answering.js";
import { Branches } from "./branches.js";
import { Numbers } from "./numbers.js";
import { isMadeElsewhere } from "./tabs/channel.js";
import { ToolCalls } from "./tool_calls.js";

export function Answer({ conversation, node, isLast }) {
  const running = runOf(node.id);
  const [, redraw] = useState(0);
  const [receipt, setReceipt] = useState(false);
  useEffect(() => running?.drawn.subscribe((state) => redraw(state.version)), [running]);
  const run = running?.run;
  const live = Boolean(run?.live);
  const shown = run ? { content: run.text, reasoning: run.reasoning, toolCalls: run.toolCalls, moves: run.moves, error: run.error, status: run.status } : node;
  const ask = (work) => () => {
    try {
      work();
    } catch (error) {
      notify(error.message, "error");
    }
  };
  const again = ask(() => answer(conversation, node.parent));
  const more = isLast && canGoOn(conversation, node) && !isRunning(conversation) && ask(() => goOn(conversation, node));
  return html`
    <article class="answer" aria-label=${`Answer of ${node.model}`} aria-busy=${live ? "true" : "false"}>
      <${Reasoning} text=${shown.reasoning} live=${live && !shown.content} />
      <${Body} text=${shown.content} moves=${shown.moves || []} live=${live} />
      ${shown.toolCalls?.length > 0 && html`<${ToolCalls} conversation=${conversation} node=${node} calls=${shown.toolCalls} live=${live} isLast=${isLast} />`}
      ${live && html`<${Waiting} run=${run} />`}
      <${Ending} shown=${shown} running=${live} madeElsewhere=${isMadeElsewhere(node)} finishReason=${node.finishReason}
        onMore=${more} onAgain=${isLast && !isRunning(conversation) && !node.content && again} />
      ${!live && html`
        <div class="answer-foot">
          ${node.stats && html`<${Numbers} model=${node.model} stats=${node.stats} moves=${shown.moves || []} receipt=${node.receipt} opened=${receipt} onOpen=${() => setReceipt(!receipt)} />`}
          <div class="actions">
            <${Branches} conversation=${conversation} node=${node} />
            ${shown.content && html`<${IconButton} icon="copy" label="Copy the answer" onClick=${() => copyText(shown.content).then((done) => done && notify("Copied."))} />`}
            <${IconButton} icon="again" label="Answer again" disabled=${isRunning(conversation)} onClick=${again} />
          </div>
        </div>
        ${receipt && html`<${Receipt} receipt=${node.receipt} requestId=${node.stats?.requestId} />`}`}
    </article>
  `;
}

const tell = (moves) =>
  moves.map((move) => ({
    offset: move.offset,
    label: `moved to ${endpointName(move.to)}`,
    title: `${endpointName(move.from)} was left because ${failureInWords(move.reason)}. ${endpointName(move.to)} went on after ${move.tokens} tokens.`,
  }));

function Body({ text, moves, live }) {
  const root = useRef(null), view = useRef(null), waiting = useRef(0);
  useLayoutEffect(() => {
    view.current = new MarkdownView(root.current);
    return () => clearTimeout(waiting.current);
  }, []);
  useLayoutEffect(() => {
    clearTimeout(waiting.current);
    const draw = () => {
      const begun = performance.now();
      view.current.update(text, tell(moves), !live);
      view.current.took = performance.now() - begun;
      view.current.readyAt = performance.now() + 3 * view.current.took;
    };
    // a text that takes long to draw is drawn less often, so that the page stays quick
    const wait = live ? (view.current.readyAt || 0) - performance.now() : 0;
    if (wait > 8) waiting.current = setTimeout(draw, wait);
    else draw();
  }, [text, moves, live]);
  return html`<div class="text" ref=${root}></div>`;
}

function Reasoning({ text, live }) {
  if (!text) return null;
  return html`
    <details class="fold">
      <summary>${live ? "Thinking…" : "Thoughts"}</summary>
      <div class="fold-text" dir="auto">${text}</div>
    </details>
  `;
}

// What is said until the first token comes.
function Waiting({ run }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds((before) => before + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  if (run.status === "streaming") return html`<span class="caret" aria-hidden="true"></span>`;
  const loading = /(\d+) ?%/.exec(run.note || "");
  return html`
    <div class="waiting" role="status">
      <span class="pulse" aria-hidden="true"></span>
      <span>${run.note ? `${run.note[0].toUpperCase()}${run.note.slice(1)}` : seconds > 2 ? `Waiting for the first token, ${seconds} s` : "Waiting for the first token"}</span>
      ${loading && html`<progress max="100" value=${loading[1]} aria-label="Loading the model"></progress>`}
    </div>
  `;
}

function Ending({ shown, running, madeElsewhere, finishReason, onMore, onAgain }) {
  const told = shown.error || (!running && howItEnded(shown.status, madeElsewhere, finishReason));
  if (!told) return null;
  return html`
    <div class=${`ending row ${shown.error ? "error" : ""}`}>
      <p role=${shown.error ? "alert" : undefined}>${told}</p>
      ${onMore && html`<button type="button" class="small" onClick=${onMore}>Continue</button>`}
      ${onAgain && shown.error && html`<button type="button" class="small" onClick=${onAgain}>Try again</button>`}
    </div>
  `;
}

function howItEnded(status, madeElsewhere, finishReason) {
  if (madeElsewhere) return "Another tab receives this answer now.";
  if (status === "streaming") return "The page was closed while this answer came.";
  if (status === "stopped") return "You stopped this answer.";
  return finishReason === "length" ? "Cut off: it reached the longest answer allowed." : "";
}
