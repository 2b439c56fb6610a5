// Sound for models that transcribe: records the microphone, and makes what they do not read 16 kHz WAV.
import { call } from "./api.js";
import { bytes } from "./format.js";

const RATE = 16_000;
const READ = /\.(wav|flac|mp3|ogg)$/i; // what the mesh reads by itself

// Browsers give the microphone only to pages that came safely: over https, or from this machine.
export const hasMicrophone = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

// Records until stop() is called, which gives the sound as a file; cancel() gives none. Throws an Error in words.
export async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((error) => {
    throw new Error(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : "There is no microphone that works.");
  });
  const leave = () => stream.getTracks().forEach((track) => track.stop()); // or the browser goes on saying that it listens
  const parts = [];
  let recorder;
  try {
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.start();
  } catch (error) {
    leave();
    throw new Error(`This browser cannot record the microphone: ${error.message}`);
  }
  const end = () =>
    new Promise((resolve) => {
      recorder.onstop = resolve;
      if (recorder.state === "inactive") resolve(); // the microphone was unplugged
      else recorder.stop();
      leave();
    });
  return {
    cancel: end,
    stop: async () => {
      await end();
      return readable(new File(parts, "recording", { type: recorder.mimeType }));
    },
  };
}

// The file as it is if the mesh reads it, else as WAV. Throws an Error if it has no sound that the browser knows.
export async function readable(file) {
  if (READ.test(file.name)) return file;
  const context = new OfflineAudioContext(1, 1, RATE);
  let sound;
  try {
    sound = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`This browser finds no sound in ${file.name}. WAV, FLAC, MP3 and OGG will do.`);
  }
  const name = file.name.replace(/\.[^.]*$/, "");
  return new File([wav(mixed(sound))], `${name}.wav`, { type: "audio/wav" });
}

// One channel of all; decodeAudioData has brought them to the context's rate.
function mixed(sound) {
  const samples = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((value, i) => (samples[i] += value / sound.numberOfChannels));
  }
  return samples;
}

function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, 32767 * Math.min(1, Math.max(-1, value)), true));
  return view.buffer;
}

// What is said in a sound file, by a model that transcribes. Throws an Error in words.
export async function transcribe(model, file, signal) {
  const sound = await readable(file);
  const form = new FormData();
  form.append("model", model);
  form.append("file", sound);
  const answer = await call("v1/audio/transcriptions", { method: "POST", body: form, signal }).catch((error) => {
    if (error.status === 413) throw new Error(tooLong(sound, error.message));
    throw error;
  });
  return answer.json();
}

const kindOf = ({ name }) => name.replace(/.*\./, "").toUpperCase();

function tooLong(sound, why) {
  const kind = kindOf(sound);
  return `The sound is too long: it is ${bytes(sound.size)} as ${kind}. ${why}.${kind === "WAV" ? " MP3 or OGG make it smaller." : ""}`;
}
