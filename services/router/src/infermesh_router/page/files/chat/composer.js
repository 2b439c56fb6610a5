// Where messages are written: the text, typed or said, pictures if the model takes them, model, device and settings.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { DeviceSelect, ModelSelect, listModels } from "../lib/choices.js";
import { Icon } from "../lib/icons.js";
import { load } from "../lib/load.js";
import { mesh } from "../lib/mesh_feed.js";
import { useStore } from "../lib/store.js";
import { IconButton, isPlainEnter, notify } from "../lib/ui.js";
import { change } from "./conversations.js";
import { useDraft } from "./drafts.js";
import { PictureButton, Pictures, takeFiles, useDropped } from "./files.js";
import { countChanged } from "./settings.js";

export function Composer({ conversation, running, onSend, onStop, onSettings }) {
  const { draft, set, clear } = useDraft(conversation);
  const { text, images } = draft;
  const [listening, setListening] = useState(null); // {}, or {file} that is to be written down
  const area = useRef(null);
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const { settings } = conversation;
  const model = listModels(endpoints, "generate").find((each) => each.name === settings.model);
  const hearing = listModels(endpoints, "transcribe").find((each) => each.loadedOn.length);
  const changed = countChanged(settings);
  useLayoutEffect(() => grow(area.current), [text]);
  useLayoutEffect(() => {
    if (matchMedia("(min-width: 800px)").matches) area.current.focus();
  }, [conversation.id]);
  const empty = !text.trim() && !images.length;
  const submit = () => {
    if (empty || running) return;
    if (onSend({ content: text.trim(), images })) clear();
  };
  const pressed = (event) => {
    if (!isPlainEnter(event)) return;
    event.preventDefault();
    submit();
  };
  const write = (more, between) => set((before) => ({ text: before.text.trim() ? `${before.text.trimEnd()}${between}${more}` : more }));
  const add = (files) => takeFiles(files, {
    pictures: model?.takes_images && ((urls) => set((before) => ({ images: [...before.images, ...urls] }))),
    sound: hearing && ((file) => setListening({ file })),
    text: (more) => write(more, "\n\n"),
  });
  const over = useDropped(add);
  const pasted = (event) => {
    const { files } = event.clipboardData;
    if (!files.length || event.clipboardData.getData("text/plain")) return; // of tables there is a picture too
    event.preventDefault();
    add([...files]);
  };
  const heard = (said) => {
    setListening(null);
    if (said) write(said, " ");
    area.current.focus();
  };
  return html`
    <form class="composer" onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class=${`composer-box ${over ? "dropping" : ""}`}>
        ${images.length > 0 && html`<${Pictures} images=${images} onRemove=${(gone) => set({ images: images.filter((_, i) => i !== gone) })} />`}
        ${listening && html`<${Listening} key=${listening.file} model=${hearing} file=${listening.file} onEnd=${heard} />`}
        <label for="message" class="off-screen">Message</label>
        <textarea id="message" ref=${area} rows="1" dir="auto" placeholder="Ask anything" value=${text}
          onInput=${(event) => set({ text: event.target.value })} onKeyDown=${pressed} onPaste=${pasted}
          aria-describedby="composer-hint"></textarea>
        <div class="composer-row">
          <${ModelSelect} id="model" value=${settings.model} onChange=${(name) => change({ model: name })} />
          <${DeviceSelect} id="device" value=${settings.device || ""} onChange=${(device) => change({ device })} />
          ${model?.takes_images && html`<${PictureButton} onFiles=${add} />`}
          ${hearing && html`<${IconButton} icon="mic" label="Ask by sound" aria-expanded=${listening ? "true" : "false"} onClick=${() => setListening(listening ? null : {})} />`}
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

// What listens is loaded when it is first needed.
function Listening(props) {
  const [Voice, setVoice] = useState(null);
  useEffect(() => {
    load(new URL("./voice.js", import.meta.url).href).then((module) => setVoice(() => module.Voice), () => {
      notify("Sound could not be loaded: the mesh does not answer.", "error");
      props.onEnd("");
    });
  }, []);
  return Voice && html`<${Voice} ...${props} />`;
}
