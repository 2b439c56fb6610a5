// Small plots as SVG: a line of gaps or rates, and bars to compare. Large ones over time are in timeline.js.
import { html } from "./html.js";

// A line over its area; the highest value touches the top.
export function Spark({ values, label, width = 120, height = 22, color = "var(--accent)" }) {
  if (values.length < 2) return null;
  const top = Math.max(...values, 1e-9);
  const step = width / (values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)},${(height - 1.5 - (value / top) * (height - 3)).toFixed(1)}`);
  return html`
    <svg class="spark" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img" aria-label=${label}
      preserveAspectRatio="none">
      <title>${label}</title>
      <polygon points=${`0,${height} ${points.join(" ")} ${width},${height}`} fill=${color} opacity="0.14" />
      <polyline points=${points.join(" ")} fill="none" stroke=${color} stroke-width="1.4" vector-effect="non-scaling-stroke" />
    </svg>
  `;
}

// One bar a row: {label, value, text, color}.
export function Bars({ rows, title }) {
  const top = Math.max(...rows.map(({ value }) => value || 0), 1e-9);
  return html`
    <figure class="bars">
      <figcaption>${title}</figcaption>
      ${rows.map(({ label, value, text, color }, i) => html`
        <div class="bar-row" key=${i}>
          <span class="bar-label">${label}</span>
          <svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
            <rect width="100" height="10" rx="1" class="bar-track" />
            <rect width=${Math.max(0, (100 * (value || 0)) / top)} height="10" rx="1" fill=${color} />
          </svg>
          <span class="bar-text">${text}</span>
        </div>`)}
    </figure>
  `;
}

// Colours of endpoints and lanes, by their place; each is legible on both themes.
export const COLORS = 6;
export const colorOf = (index) => `var(--series-${(index % COLORS) + 1})`;
