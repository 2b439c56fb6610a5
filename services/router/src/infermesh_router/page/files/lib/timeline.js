// Lines over time with uPlot, which is loaded when the first one is drawn.
import { html, useEffect, useRef } from "./html.js";
import { load } from "./load.js";
import { theme } from "./theme.js";

let loading = null;

function loadPlot() {
  loading ??= Promise.all([load(at("../vendor/uplot.js")), style("../vendor/uplot.css")]).then(([module]) => module.default);
  return loading;
}

const at = (path) => new URL(path, import.meta.url).href;

function style(path) {
  return new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = at(path);
    link.onload = link.onerror = resolve;
    document.head.append(link);
  });
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name.replace(/^var\(|\)$/g, "")).trim();

// series: [{label, color, values}]; times in seconds; marks: [{time, label, color}]; from, to: the time that is shown.
export function Timeline({ times, series, marks = [], from, to, label, height = 220, format = String, top }) {
  const root = useRef(null), plot = useRef(null), shown = useRef({}), draw = useRef(() => {});
  shown.current = { marks, from, to, format };
  const shape = series.map((each) => each.label).join("|");
  useEffect(() => {
    let gone = false;
    draw.current = () => loadPlot().then((uPlot) => {
      if (gone || plot.current) return;
      const options = describe(root.current.clientWidth, height, series, shown, top);
      plot.current = new uPlot(options, [times, ...series.map((each) => each.values)], root.current);
    }, () => (loading = null)); // the next figures try again
    draw.current();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: root.current.clientWidth, height }));
    resized.observe(root.current);
    const unthemed = theme.subscribe(() => plot.current?.redraw(false));
    return () => {
      gone = true;
      resized.disconnect();
      unthemed();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape, height]);
  useEffect(() => {
    if (plot.current) plot.current.setData([times, ...series.map((each) => each.values)]);
    else draw.current();
  }, [times]);
  return html`<div class="timeline" ref=${root} role="img" aria-label=${label}></div>`;
}

function describe(width, height, series, shown, top) {
  const axis = { stroke: () => color("--muted"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width, height, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
    scales: {
      x: { time: true, range: () => [shown.current.from, shown.current.to] },
      y: { range: (_, __, most) => [0, Math.max(top ?? 0, (most || 1) * 1.1)] },
    },
    axes: [
      { ...axis, size: 28, values: (_, splits) => splits.map(hour), space: 90 },
      { ...axis, size: 52, values: (_, splits) => splits.map((value) => shown.current.format(value)) },
    ],
    series: [{}, ...series.map((each) => ({ stroke: () => color(each.color), width: 1.8, points: { show: false }, spanGaps: false }))],
    hooks: { draw: [(plot) => drawMarks(plot, shown.current)] },
  };
}

const hour = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// Events are upright lines with a word on top.
function drawMarks(plot, { marks, from, to }) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.font = `600 ${10 * devicePixelRatio}px system-ui`;
  ctx.textAlign = "start";
  let free = 0; // labels that would lie over each other are left out
  for (const mark of marks) {
    if (mark.time < from || mark.time > to) continue;
    const x = plot.valToPos(mark.time, "x", true);
    ctx.strokeStyle = ctx.fillStyle = color(mark.color);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (x < free) continue;
    ctx.fillText(mark.label, x + 3 * devicePixelRatio, bbox.top + 10 * devicePixelRatio);
    free = x + ctx.measureText(mark.label).width + 8 * devicePixelRatio;
  }
  ctx.restore();
}
