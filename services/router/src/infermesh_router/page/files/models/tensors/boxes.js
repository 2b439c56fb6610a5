// Finds boxes in a detector's outputs, whichever of the usual layouts they have, as parts of the picture.
import { readApart } from "./apart.js";
import { readPacked } from "./packed.js";
import { suppress } from "./suppress.js";

export const LEAST_SCORE = 0.05;
const MOST_BOXES = 300;
const MOST_FRACTION = 2; // larger numbers are pixels

// What the four numbers of a box are, and how they become left, top, right, bottom.
export const ORDERS = {
  ltrb: { label: "left, top, right, bottom", of: (box) => box },
  tlbr: { label: "top, left, bottom, right", of: ([top, left, bottom, right]) => [left, top, right, bottom] },
  center: { label: "centre, width, height", of: ([x, y, wide, tall]) => [x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2] },
  ltwh: { label: "left, top, width, height", of: ([left, top, wide, tall]) => [left, top, left + wide, top + tall] },
};

// {boxes, order, list}, surest first, or null. A box is {left, top, right, bottom, label, score} with sides in [0, 1] of
// the picture, which lies in the tensor as `frame` says. `order` overrules what the tensors look like.
export function findBoxes(outputs, frame, { sized = false, order = "" } = {}) {
  const numbers = outputs.filter(({ data }) => typeof data[0] === "number");
  const found = readPacked(numbers, frame) || readApart(numbers, sized);
  if (!found) return null;
  const items = found.items.filter(({ score, at }) => score >= LEAST_SCORE && at.every(Number.isFinite)).sort((a, b) => b.score - a.score);
  const chosen = order || likely(found.order, items);
  const largestSide = items.reduce((most, { at }) => Math.max(most, ...at.map(Math.abs)), 0);
  const unit = largestSide > MOST_FRACTION ? [1, 1] : [frame.width, frame.height];
  const boxes = items.map(({ at, label, score }) => ({ ...place(ORDERS[chosen].of(at), unit, frame), label, score }));
  const kept = found.crowded ? suppress(boxes, MOST_BOXES) : boxes.slice(0, MOST_BOXES);
  return { boxes: kept, order: chosen, list: found.list };
}

// Corners whose right is left of their left are no corners.
function likely(order, items) {
  if (order !== "ltrb") return order;
  const wrong = items.filter(({ at: [left, top, right, bottom] }) => right < left || bottom < top);
  return wrong.length > items.length / 10 ? "center" : order;
}

function place([left, top, right, bottom], [wide, tall], frame) {
  const x = (value) => bound((value * wide - frame.left) / frame.drawn.width);
  const y = (value) => bound((value * tall - frame.top) / frame.drawn.height);
  return { left: x(left), top: y(top), right: x(right), bottom: y(bottom) };
}

const bound = (value) => Math.min(1, Math.max(0, value));
