// A conversation's settings: system prompt, sampling, form of the answer, tools.
import { html, useState } from "../lib/html.js";
import { Dialog } from "../lib/ui.js";
import { DEFAULTS, change } from "./conversations.js";
import { readSchema, readTools } from "./request.js";

const NUMBERS = [
  { name: "temperature", label: "Temperature", type: "number", min: 0, max: 2, step: "any", hint: "0 to 2; 0 takes the likeliest token" },
  { name: "top_p", label: "Top p", type: "number", min: 0, max: 1, step: "any", hint: "0 to 1; leaves out unlikely tokens" },
  { name: "max_tokens", label: "Longest answer", type: "number", min: 1, max: 1_000_000, step: 1, hint: "in tokens" },
  {
    name: "seed", label: "Seed", type: "text", inputmode: "numeric", pattern: "-?[0-9]{1,20}", title: "A whole number",
    placeholder: "random", hint: "the same seed gives the same answer",
  },
];
const SHOWN_APART = new Set(["model", "device"]);

// How many settings are not as they are by themselves.
export const countChanged = (settings) =>
  Object.keys(DEFAULTS).filter((name) => !SHOWN_APART.has(name) && String(settings[name] ?? "").trim() !== "").length;

export function SettingsDialog({ settings, onClose }) {
  const [typed, setTyped] = useState({ ...DEFAULTS, ...settings });
  const set = (name) => (event) => setTyped({ ...typed, [name]: event.target.value });
  const problems = { schema: problemOf(readSchema, typed.schema), tools: problemOf(readTools, typed.tools) };
  const submit = (event) => {
    event.preventDefault();
    const { model, device, ...changed } = typed;
    change(changed);
    onClose();
  };
  const clear = () => setTyped({ ...DEFAULTS, model: typed.model, device: typed.device });
  return html`
    <${Dialog} title="Settings of this chat" onClose=${onClose}>
      <form class="stack" onSubmit=${submit}>
        <label class="field"><span>System prompt</span>
          <textarea rows="3" dir="auto" value=${typed.system} onInput=${set("system")} placeholder="How the model shall answer"></textarea>
        </label>
        <div class="fields four">
          ${NUMBERS.map(({ name, label, hint, placeholder = "model's own", ...bounds }) => html`
            <label class="field" key=${name}><span>${label}</span>
              <input ...${bounds} value=${typed[name]} onInput=${set(name)} placeholder=${placeholder} />
              <small>${hint}</small>
            </label>`)}
        </div>
        <label class="field"><span>Stop strings</span>
          <textarea rows="2" value=${typed.stop} onInput=${set("stop")} placeholder="One a line"></textarea>
          <small>The answer ends before any of them. Write \\n for a new line.</small>
        </label>
        <${Json} label="JSON schema of the answer" value=${typed.schema} onInput=${set("schema")} problem=${problems.schema}
          placeholder='{"type": "object", "properties": {"name": {"type": "string"}}}' />
        <${Json} label="Tools" value=${typed.tools} onInput=${set("tools")} problem=${problems.tools}
          placeholder='[{"type": "function", "function": {"name": "weather", "parameters": {}}}]' />
        <p class="hint">These settings hold for this chat. New chats begin with the same numbers and stop strings. An empty field leaves
          the choice to the model's makers; a click on an answer's device shows what was used.</p>
        <div class="row end">
          <button type="button" class="quiet" onClick=${clear}>Clear all</button>
          <button type="submit" class="primary" disabled=${Boolean(problems.schema || problems.tools)}>Save</button>
        </div>
      </form>
    <//>
  `;
}

function problemOf(read, text) {
  try {
    read(text);
    return "";
  } catch (error) {
    return error.message;
  }
}

const Json = ({ label, value, onInput, problem, placeholder }) => html`
  <label class="field"><span>${label}</span>
    <textarea class="code-input" rows="3" spellcheck="false" value=${value} onInput=${onInput} placeholder=${placeholder}
      aria-invalid=${problem ? "true" : undefined}></textarea>
    ${problem && html`<small class="problem">${problem}</small>`}
  </label>
`;
