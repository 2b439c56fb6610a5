// Files that are chosen, pasted or dropped: pictures, sound to be written down, and texts, which go into the message.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { IconButton, notify, readFile } from "../lib/ui.js";

const MOST_PICTURE_BYTES = 8 << 20;
const MOST_TEXT_BYTES = 1 << 20;
const AMBIGUOUS = /^image\/svg\+xml$|\/mp2t$|mpegurl$/; // types of files that may be texts

// Calls those of `takes` that the files are for: pictures(urls), sound(file), text(text). One that is missing is told of.
export async function takeFiles(files, takes) {
  const pictures = [], sounds = [];
  for (const file of files) {
    const kind = await kindOf(file);
    if (kind === "picture") pictures.push(await readPicture(file, takes.pictures));
    else if (kind === "sound") sounds.push(file);
    else await takeText(file, takes.text);
  }
  const read = pictures.filter(Boolean);
  if (read.length) takes.pictures(read);
  if (sounds.length) takeSound(sounds, takes.sound);
}

// Systems name a file's type by the end of its name: .ts (TypeScript) is a video to some, a playlist a sound.
async function kindOf(file) {
  if (AMBIGUOUS.test(file.type) && (await readText(file)) !== null) return "text";
  if (file.type.startsWith("image/")) return "picture";
  return /^(audio|video)\//.test(file.type) ? "sound" : "text";
}

// The text of a file, or null if it is too large or none.
async function readText(file) {
  if (file.size > MOST_TEXT_BYTES) return null;
  const text = await readFile(file).catch(() => "\0"); // a folder cannot be read
  return /[\0\uFFFD]/.test(text) ? null : text;
}

async function readPicture(file, taken) {
  if (!taken) notify("The chosen model does not take pictures.", "error");
  else if (file.size > MOST_PICTURE_BYTES) notify(`${file.name} is larger than 8 MiB.`, "error");
  else return readFile(file, "url").catch(() => (notify(`${file.name} cannot be read.`, "error"), ""));
  return "";
}

function takeSound([first, ...others], taken) {
  if (!taken) return notify("No model that turns speech into text is loaded.", "error");
  if (others.length) notify(`One sound is taken at a time: ${first.name}.`, "error");
  taken(first);
}

async function takeText(file, taken) {
  const text = await readText(file);
  if (file.size > MOST_TEXT_BYTES) notify(`${file.name} is larger than 1 MiB.`, "error");
  else if (text === null) notify(`${file.name} is neither a picture nor a sound nor a text.`, "error");
  else taken(fenced(file.name, text));
}

// As a block of code, whose fence is longer than any in it.
function fenced(name, text) {
  const longest = (text.match(/`+/g) || []).reduce((most, { length }) => Math.max(most, length), 2);
  const fence = "`".repeat(longest + 1);
  return `${name}:\n${fence}\n${text.trimEnd()}\n${fence}\n`;
}

// Takes files that are dropped anywhere on the page, which browsers would open in its place. Returns whether some are
// held over it now.
export function useDropped(onFiles) {
  const [over, setOver] = useState(false);
  const taken = useRef(onFiles);
  taken.current = onFiles;
  useEffect(() => {
    const held = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return false;
      event.preventDefault();
      return !document.querySelector("dialog[open]");
    };
    const listeners = {
      dragover: (event) => held(event) && setOver(true),
      dragleave: (event) => event.relatedTarget === null && setOver(false),
      drop: (event) => {
        setOver(false);
        if (held(event)) taken.current([...event.dataTransfer.files]);
      },
    };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => Object.entries(listeners).forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
  return over;
}

export function PictureButton({ onFiles }) {
  const input = useRef(null);
  return html`
    <${IconButton} icon="image" label="Add a picture" onClick=${() => input.current.click()} />
    <input ref=${input} type="file" accept="image/*" multiple hidden aria-label="Pictures"
      onChange=${(event) => (onFiles([...event.target.files]), (event.target.value = ""))} />
  `;
}

export const Pictures = ({ images, onRemove }) => html`
  <ul class="pictures">
    ${images.map((url, i) => html`
      <li key=${i}><img src=${url} alt=${`Picture ${i + 1}`} />
        <${IconButton} icon="close" label=${`Remove picture ${i + 1}`} onClick=${() => onRemove(i)} /></li>`)}
  </ul>
`;
