// The tool calls of an answer, folded; the reader may type what the tools would give back.
import { html, useState } from "../lib/html.js";
import { notify } from "../lib/ui.js";
import { answer } from "./answering.js";
import { save } from "./conversations.js";
import { changed } from "./tabs/merging.js";

export function ToolCalls({ conversation, node, calls, live, isLast }) {
  const [results, setResults] = useState(node.toolResults || {});
  const asks = isLast && !live && !node.toolResults;
  const submit = (event) => {
    event.preventDefault();
    changed(node, { toolResults: Object.fromEntries(calls.map((call) => [call.id, results[call.id] ?? ""])) });
    save(conversation);
    try {
      answer(conversation, node.id);
    } catch (error) {
      notify(error.message, "error");
    }
  };
  return html`
    <form class="tool-calls" onSubmit=${submit}>
      ${calls.map((call) => html`
        <details class="fold" key=${call.id} open=${asks}>
          <summary>Calls <code>${call.name || "…"}</code></summary>
          <pre tabindex="0"><code>${pretty(call.arguments)}</code></pre>
          ${asks
            ? html`<label class="field"><span>What ${call.name} gives back</span>
                <textarea rows="2" value=${results[call.id] || ""} onInput=${(event) => setResults({ ...results, [call.id]: event.target.value })}></textarea></label>`
            : node.toolResults && html`<p class="tool-result">${node.toolResults[call.id]}</p>`}
        </details>`)}
      ${asks && html`<div class="row"><button type="submit">Send the results</button></div>`}
    </form>
  `;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
