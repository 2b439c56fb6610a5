// The messages of a conversation. It stays at the newest text unless the reader has scrolled up.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { Icon } from "../lib/icons.js";
import { Answer } from "./answer.js";
import { Question } from "./question.js";

const NEAR_PX = 60;

export function Thread({ conversation, path }) {
  const frame = useRef(null), inner = useRef(null), following = useRef(true);
  const [away, setAway] = useState(false);
  const toEnd = () => {
    following.current = true;
    frame.current.scrollTop = frame.current.scrollHeight;
  };
  useEffect(() => {
    const grown = new ResizeObserver(() => following.current && toEnd());
    grown.observe(inner.current);
    toEnd();
    return () => grown.disconnect();
  }, []);
  useEffect(toEnd, [path.at(-1).id]);
  const scrolled = () => {
    const { scrollHeight, scrollTop, clientHeight } = frame.current;
    following.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    setAway(!following.current);
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
