// Follows a store, but draws no more often than the page can bear: the more there is to draw, the more seldom.
import { useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";

const PART = 20; // one part in so many of the time may go to drawing
const LONGEST_MS = 1000; // but what somebody did must show

export function useCalmly(store) {
  const [state, setState] = useState(store.get());
  const begun = performance.now();
  const readyAt = useRef(0);
  useLayoutEffect(() => {
    const done = performance.now();
    readyAt.current = done + Math.min(LONGEST_MS, PART * (done - begun));
  });
  useEffect(() => {
    let timer = 0;
    const draw = () => {
      timer = 0;
      setState(store.get());
    };
    const changed = () => {
      if (document.hidden || timer) return; // who does not look sees it all on coming back
      const wait = readyAt.current - performance.now();
      if (wait > 0) timer = setTimeout(draw, wait);
      else draw();
    };
    changed();
    const stop = store.subscribe(changed);
    document.addEventListener("visibilitychange", changed);
    return () => {
      clearTimeout(timer);
      stop();
      document.removeEventListener("visibilitychange", changed);
    };
  }, [store]);
  return state;
}
