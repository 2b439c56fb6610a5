// Reads detections whose boxes, scores and classes are tensors of their own: TensorFlow's, torchvision's, DETR's.
import { listOf } from "./names.js";
import { rowsOf } from "./packed.js";
import { areProbabilities, classify } from "./scores.js";

const BOXES = /box|dets/i, SCORES = /score|prob|conf/i, LABELS = /label|class|cls|categor/i, NO_BOXES = /raw|anchor|encod/i;
const TENSORFLOW = /detection_|postprocess|statefulpartitionedcall/i;
const TENSORFLOW_LITE = /postprocess|statefulpartitionedcall/i;

// As readPacked; sized: whether the model was told a size to give its boxes in, as those of 80 classes are.
export function readApart(outputs, sized) {
  const fours = outputs.filter(({ shape }) => shape.length > 1 && shape.at(-1) === 4);
  const boxes = fours.find(({ name }) => BOXES.test(name) && !NO_BOXES.test(name)) || fours[0];
  if (!boxes) return null;
  const count = boxes.data.length / 4;
  const at = (i) => Array.from(boxes.data.slice(4 * i, 4 * i + 4));
  const others = outputs.filter((output) => output !== boxes);
  const read = readVectors(others, count, sized) || readRows(others, count);
  if (!read) return null;
  return { ...read, order: orderOf(boxes), items: read.items.map((item, i) => ({ ...item, at: at(i) })) };
}

// The order of a box's numbers by its tensor: left, top, right, bottom; the same with top first; or centre and size.
function orderOf({ name, shape }) {
  if (/pred_boxes/i.test(name)) return "center";
  return TENSORFLOW.test(name) || (shape.length === 4 && shape[2] === 1) ? "tlbr" : "ltrb";
}

function readVectors(outputs, count, sized) {
  const vectors = outputs.filter(({ shape, data }) => data.length === count && (shape.at(-1) === count || shape.length === 1));
  const isScore = ({ data }) => areProbabilities(Array.from(data));
  const scores = vectors.find(({ name }) => SCORES.test(name)) || vectors.find((each) => isScore(each) && !each.data.every(Number.isInteger));
  if (!scores || !isScore(scores)) return null;
  const rest = vectors.filter((each) => each !== scores);
  const labels = rest.find(({ name }) => LABELS.test(name)) || rest.find(({ data }) => data.every(Number.isInteger));
  const items = Array.from(scores.data, (score, i) => ({ score, label: labels ? labels.data[i] : 0 }));
  const list = !labels ? "numbers" : TENSORFLOW_LITE.test(labels.name) ? "coco89" : sized ? "coco80" : "coco90";
  return { items, list, crowded: false };
}

function readRows(outputs, count) {
  for (const output of outputs) {
    const told = rowsOf(output);
    if (!told) continue;
    const rows = told.length === count ? told : told[0].length === count ? told[0].map((_, i) => told.map((row) => row[i])) : null;
    if (!rows || rows[0].length < 2) continue;
    const { items, background } = classify(rows);
    const classes = rows[0].length;
    if (background === 0 && classes === 81) return { items: items.map(({ label, score }) => ({ label: label - 1, score })), list: "coco80", crowded: true };
    return { items, list: listOf(classes), crowded: !/logits/i.test(output.name) };
  }
  return null;
}
