// Where messages are written: the text, typed or said, pictures if the model takes them, model, device and settings.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { DeviceSelect, ModelSelect, listModels } from "../lib/choices.js";
import { Icon } from "../lib/icons.js";
import { mesh } from "../lib/mesh_feed.js";
import { useStore } from "../lib/store.js";
import { IconButton, isPlainEnter, notify, readFile } from "../lib/ui.js";
import { change } from "./conversations.js";
import { countChanged } from "./settings.js";
import { Voice } from "./voice.js";

const MOST_PICTURE_BYTES = 8 << 20;

export function Composer({ conversation, running, onSend, onStop, onSettings }) {
  const [text, setText] = useState("");
  const [images, setImages] = useState([]);
  const [listening, setListening] = useState(false);
  const area = useRef(null);
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const { settings } = conversation;
  const model = listModels(endpoints, "generate").find((each) => each.name === settings.model);
  const hearing = listModels(endpoints, "transcribe").find((each) => each.loadedOn.length);
  const changed = countChanged(settings);
  useLayoutEffect(() => grow(area.current), [text]);
  useEffect(() => {
    if (matchMedia("(min-width: 800px)").matches) area.current.focus();
  }, [conversation.id]);
  const empty = !text.trim() && !images.length;
  const submit = () => {
    if (empty || running) return;
    if (onSend({ content: text.trim(), images })) {
      setText("");
      setImages([]);
    }
  };
  const pressed = (event) => {
    if (!isPlainEnter(event)) return;
    event.preventDefault();
    submit();
  };
  const add = async (files) => setImages([...images, ...(await readPictures(files))]);
  const pasted = (event) => {
    if (!model?.takes_images || !event.clipboardData.files.length) return;
    event.preventDefault();
    add(event.clipboardData.files);
  };
  const heard = (said) => {
    setListening(false);
    if (said) setText((typed) => (typed.trim() ? `${typed.trimEnd()} ${said}` : said));
    area.current.focus();
  };
  return html`
    <form class="composer" onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="composer-box">
        ${images.length > 0 && html`<${Pictures} images=${images} onRemove=${(gone) => setImages(images.filter((_, i) => i !== gone))} />`}
        ${listening && html`<${Voice} model=${hearing} onEnd=${heard} />`}
        <label for="message" class="off-screen">Message</label>
        <textarea id="message" ref=${area} rows="1" dir="auto" placeholder="Ask anything" value=${text}
          onInput=${(event) => setText(event.target.value)} onKeyDown=${pressed} onPaste=${pasted}
          aria-describedby="composer-hint"></textarea>
        <div class="composer-row">
          <${ModelSelect} id="model" value=${settings.model} onChange=${(name) => change({ model: name })} />
          <${DeviceSelect} id="device" value=${settings.device || ""} onChange=${(device) => change({ device })} />
          ${model?.takes_images && html`<${PictureButton} onFiles=${add} />`}
          ${hearing && html`<${IconButton} icon="mic" label="Ask by sound" aria-expanded=${listening ? "true" : "false"} onClick=${() => setListening(!listening)} />`}
          <span class="spacer"></span>
          <button type="button" class="quiet settings-button" onClick=${onSettings}>
            <${Icon} name="settings" /><span class="wide-only">Settings</span>${changed > 0 && html`<span class="badge" title="Settings that are not as they are by themselves">${changed}</span>`}
          </button>
          ${running
            ? html`<button key="stop" type="button" class="send stop" onClick=${onStop} aria-label="Stop" title="Stop (Esc)"><${Icon} name="stop" /></button>`
            : html`<button key="run" type="submit" class="send" disabled=${empty} aria-label="Send" title="Send (Enter)"><${Icon} name="send" /></button>`}
        </div>
      </div>
      <p id="composer-hint" class="composer-hint">Enter sends, Shift+Enter begins a new line, Esc stops, / comes back here.</p>
    </form>
  `;
}

function grow(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight, 240)}px`;
}

async function readPictures(files) {
  const read = [];
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    if (file.size > MOST_PICTURE_BYTES) notify(`${file.name} is larger than 8 MiB.`, "error");
    else read.push(await readFile(file, "url"));
  }
  return read;
}

function PictureButton({ onFiles }) {
  const input = useRef(null);
  return html`
    <${IconButton} icon="image" label="Add a picture" onClick=${() => input.current.click()} />
    <input ref=${input} type="file" accept="image/*" multiple hidden aria-label="Pictures"
      onChange=${(event) => (onFiles([...event.target.files]), (event.target.value = ""))} />
  `;
}

const Pictures = ({ images, onRemove }) => html`
  <ul class="pictures">
    ${images.map((url, i) => html`
      <li key=${i}><img src=${url} alt=${`Picture ${i + 1}`} />
        <${IconButton} icon="close" label=${`Remove picture ${i + 1}`} onClick=${() => onRemove(i)} /></li>`)}
  </ul>
`;
