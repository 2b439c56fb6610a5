// The messages of a conversation. It stays at the newest text unless the reader has scrolled up.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { Icon } from "../lib/icons.js";
import { Answer } from "./answer.js";
import { Question } from "./question.js";

const NEAR_PX = 60;

// How much text there is below what is seen, in px.
const leftOf = ({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight;

export function Thread({ conversation, path }) {
  const frame = useRef(null), inner = useRef(null), following = useRef(true), last = useRef(0);
  const [away, setAway] = useState(false);
  const toEnd = () => {
    following.current = true;
    frame.current.scrollTop = frame.current.scrollHeight;
    last.current = frame.current.scrollTop;
  };
  useEffect(() => {
    const grown = new ResizeObserver(() => (following.current ? toEnd() : setAway(leftOf(frame.current) >= NEAR_PX)));
    grown.observe(inner.current);
    toEnd();
    return () => grown.disconnect();
  }, []);
  useEffect(toEnd, [path.at(-1).id]);
  const scrolled = () => {
    const { scrollTop } = frame.current;
    const left = leftOf(frame.current);
    const upwards = scrollTop < last.current; // by the reader, or by the text that became shorter, which leaves nothing
    following.current = upwards ? left < 1 : following.current || left < NEAR_PX;
    last.current = scrollTop;
    setAway(!following.current && left >= NEAR_PX);
  };
  return html`
    <div class="thread" ref=${frame} onScroll=${scrolled} tabindex="0" role="region" aria-label="Messages">
      <div class="thread-inner" ref=${inner}>
        ${path.map((node) => html`
          <${node.role === "user" ? Question : Answer} key=${node.id} conversation=${conversation} node=${node}
            isLast=${node === path.at(-1)} />`)}
      </div>
      ${away && html`<button type="button" class="to-end" onClick=${toEnd} aria-label="To the newest message"><${Icon} name="send" /></button>`}
    </div>
  `;
}
