// The page: its header, its rooms, and which of them is shown.
import { html, render, useEffect, useRef, useState } from "./lib/html.js";
import { KeyDialog, MeshSign, ThemeButton } from "./lib/header.js";
import { Icon } from "./lib/icons.js";
import { load } from "./lib/load.js";
import { follow } from "./lib/mesh_feed.js";
import { Notices, notify } from "./lib/ui.js";
import { ChatRoom } from "./chat/room.js";

const at = (path) => new URL(path, import.meta.url).href;

// Rooms other than the chat are loaded when they are first opened.
const ROOMS = {
  chat: { title: "Chat", load: async () => ChatRoom },
  compare: { title: "Compare", load: async () => (await load(at("./compare/room.js"))).CompareRoom },
  mesh: { title: "Mesh", load: async () => (await load(at("./mesh/room.js"))).MeshRoom },
  models: { title: "Models", load: async () => (await load(at("./models/room.js"))).ModelsRoom },
};

function readPlace() {
  const [room, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { room: Object.hasOwn(ROOMS, room) ? room : "chat", rest: rest.map(decode) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody typed it
  }
}

function usePlace() {
  const [place, setPlace] = useState(readPlace);
  useEffect(() => {
    const moved = () => setPlace(readPlace());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

function Page() {
  const { room, rest } = usePlace();
  const [shown, setShown] = useState({ room: "chat", Room: ChatRoom });
  useEffect(() => {
    let current = true;
    document.title = `${ROOMS[room].title} · infermesh`;
    ROOMS[room].load().then((Room) => current && setShown({ room, Room }), () => current && stay(shown.room, room));
    return () => (current = false);
  }, [room]);
  const { Room } = shown;
  const kept = useRef([]); // until the next room has come, this one stays at its place
  if (shown.room === room) kept.current = rest;
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <header class="top">
      <a class="brand" href="#/chat" aria-label="infermesh"><img src=${logo} alt="" width="24" height="24" /><span>infermesh</span></a>
      <nav aria-label="Rooms">
        ${Object.entries(ROOMS).map(([name, { title }]) => html`
          <a key=${name} href=${`#/${name}`} aria-current=${name === room ? "page" : undefined}>
            <${Icon} name=${name} /><span>${title}</span>
          </a>`)}
      </nav>
      <div class="top-end"><${MeshSign} /><${ThemeButton} /></div>
    </header>
    <main id="main" tabindex="-1" class=${`room ${shown.room}`}><${Room} rest=${kept.current} /></main>
    <${KeyDialog} />
    <${Notices} />
  `;
}

// A room's files did not come.
function stay(room, wanted) {
  notify(`${ROOMS[wanted].title} could not be opened: the mesh does not answer.`, "error");
  location.hash = `#/${room}`;
}

const logo = at("./icon.svg");

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

render(html`<${Page} />`, document.getElementById("app"));
follow();
