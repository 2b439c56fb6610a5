// Trials of models of sound: what is said in a file or into the microphone, and text spoken.
import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { call } from "../../lib/api.js";
import { hasMicrophone, record, transcribe } from "../../lib/sound.js";
import { Begin, Told, useCall } from "./call.js";
import { Lines } from "./texts.js";

export function Transcribe({ model }) {
  const [file, setFile] = useState(null);
  const [state, begin, stop] = useCall();
  const input = useRef(null);
  const choose = (recorded) => {
    input.current.value = ""; // or it shows the name of another file
    setFile(recorded);
  };
  const ask = (signal) => transcribe(model.name, file, signal);
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <label class="field"><span>Sound</span><input ref=${input} type="file" accept="audio/*,video/*" onChange=${(event) => setFile(event.target.files[0])} /></label>
      ${hasMicrophone() && html`<${Microphone} disabled=${state.busy} onSound=${choose} />`}
      <${Begin} label="Transcribe" state=${state} disabled=${!file} onStop=${stop} />
      <${Told} state=${state} model=${model} />
      ${state.result && html`<p class="trial-text" dir="auto">${state.result.text.trim() || html`<span class="hint">The model heard no words.</span>`}</p>`}
    </form>
  `;
}

// Records until it is told to end, and gives the recording as a file; null while there is none.
function Microphone({ disabled, onSound }) {
  const [told, setTold] = useState("");
  const [busy, setBusy] = useState(false);
  const recording = useRef(null);
  const gone = useRef(false);
  useEffect(() => () => {
    gone.current = true;
    recording.current?.cancel();
  }, []);
  const step = async (work) => {
    setBusy(true);
    try {
      setTold(await work());
    } catch (error) {
      setTold(error.message);
    }
    setBusy(false);
  };
  const begin = () => step(async () => {
    const begun = await record();
    if (gone.current) {
      await begun.cancel(); // closed while the browser asked
      return "";
    }
    recording.current = begun;
    onSound(null);
    return "Listening…";
  });
  const end = () => step(async () => {
    const { stop } = recording.current;
    recording.current = null;
    onSound(await stop());
    return "Recorded.";
  });
  const listens = recording.current !== null;
  return html`
    <div class="row">
      <button type="button" class="small" disabled=${busy || disabled} onClick=${listens ? end : begin}>${listens ? "Done" : "Record the microphone"}</button>
      <span role="status" class="hint">${told}</span>
    </div>
  `;
}

export function Speak({ model }) {
  const [text, setText] = useState("The mesh speaks, and says which device lent its voice.");
  const [voice, setVoice] = useState(model.voices[0] || "");
  const [state, begin, stop] = useCall();
  const ask = async (signal) => {
    const body = { model: model.name, input: text, ...(voice ? { voice } : {}), response_format: "wav" };
    return (await call("v1/audio/speech", { method: "POST", body, signal })).blob();
  };
  const url = useAddress(state.result);
  return html`
    <form class="stack" onSubmit=${(event) => begin(event, ask)}>
      <${Lines} label="Text" value=${text} onInput=${setText} rows=${3} />
      ${model.voices.length > 0 && html`
        <label class="select"><span class="select-label">Voice</span>
          <select value=${voice} onChange=${(event) => setVoice(event.target.value)}>${model.voices.map((name) => html`<option key=${name}>${name}</option>`)}</select></label>`}
      <${Begin} label="Speak" state=${state} disabled=${!text.trim()} onStop=${stop} />
      <${Told} state=${state} model=${model} />
      ${url && html`
        <audio controls src=${url} aria-label="The speech"></audio>
        <div class="row end"><a href=${url} download=${`${model.name}.wav`}>Save it as WAV</a></div>`}
    </form>
  `;
}

// An address of a blob for as long as it is shown; browsers keep blobs until their addresses are given back.
function useAddress(blob) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!blob) return undefined;
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => {
      setUrl("");
      URL.revokeObjectURL(made);
    };
  }, [blob]);
  return url;
}
