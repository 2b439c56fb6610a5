// Reads detections of which one tensor holds everything: YOLO's, OpenVINO's DetectionOutput, and others of rows.
import { listOf } from "./names.js";
import { areProbabilities, largest } from "./scores.js";

const STRIDES = [[8, 16, 32], [8, 16, 32, 64], [16, 32]];
const BOX = 4, OBJECT = 5; // columns before the classes' scores, without and with one for "an object"

// A tensor of one picture as rows; null if it is none.
export function rowsOf({ shape, data }) {
  if (shape.length < 2 || shape.slice(0, -2).some((side) => side !== 1)) return null;
  const [height, width] = shape.slice(-2);
  return Array.from({ length: height }, (_, i) => Array.from(data.slice(i * width, (i + 1) * width)));
}

// {order, list, crowded, items: [{at, label, score}]} in the model's own coordinates, or null.
export function readPacked(outputs, frame) {
  for (const output of outputs) {
    const columns = output.shape.at(-1);
    const read = { 7: readSevens, 6: readSixes, 5: readFives }[columns];
    const rows = read && rowsOf(output);
    const found = rows && read(rows, outputs);
    if (found) return found;
  }
  return readYolo(outputs, frame);
}

const whole = (rows, column) => rows.every((row) => Number.isInteger(row[column]));
const sure = (rows, column) => areProbabilities(rows.map((row) => row[column]));

function readSevens(rows) {
  if (sure(rows, 2) && whole(rows, 1)) {
    return found("ltrb", "coco90", rows.filter((row) => row[0] >= 0), { at: 3, label: 1, score: 2 }); // OpenVINO's; -1 ends the list
  }
  return sure(rows, 6) && whole(rows, 5) ? found("ltrb", "coco80", rows, { at: 1, label: 5, score: 6 }) : null;
}

function readSixes(rows) {
  if (sure(rows, 4) && whole(rows, 5)) return found("ltrb", "coco80", rows, { at: 0, label: 5, score: 4 }); // YOLO's without overlaps
  return sure(rows, 1) && whole(rows, 0) ? found("ltrb", "coco80", rows, { at: 2, label: 0, score: 1 }) : null; // Paddle's
}

// Boxes with scores, and the labels in a tensor of their own, as MMDetection has them.
function readFives(rows, outputs) {
  const labels = outputs.find(({ name, data }) => /label|class/i.test(name) && data.length === rows.length);
  if (!labels || !sure(rows, 4)) return null;
  const joined = rows.map((row, i) => [...row, Number(labels.data[i])]);
  return found("ltrb", "coco80", joined, { at: 0, label: 5, score: 4 });
}

function found(order, list, rows, place) {
  const items = rows.map((row) => ({ at: row.slice(place.at, place.at + BOX), label: row[place.label], score: row[place.score] }));
  return { order, list, crowded: false, items };
}

// One row for each place where a network looks; since YOLOv8 the rows stand upright, and none says "an object" by itself.
function readYolo(outputs, frame) {
  const places = placesOf(frame);
  for (const output of outputs) {
    const upright = places.has(output.shape.at(-1));
    if (!upright && !places.has(output.shape.at(-2))) continue;
    const told = rowsOf(output);
    if (!told) continue;
    const rows = upright ? told[0].map((_, i) => told.map((row) => row[i])) : told;
    const before = upright ? BOX : OBJECT;
    const classes = rows[0].length - before - masksOf(outputs);
    if (classes < 1) continue;
    const items = rows.map((row) => {
      const scores = row.slice(before, before + classes), label = largest(scores);
      return { at: row.slice(0, BOX), label, score: scores[label] * (upright ? 1 : row[BOX]) };
    });
    if (areProbabilities(items.map((item) => item.score))) return { order: "center", list: listOf(classes), crowded: true, items };
  }
  return null;
}

function placesOf({ width, height }) {
  const sums = STRIDES.map((strides) => strides.reduce((sum, stride) => sum + Math.ceil(width / stride) * Math.ceil(height / stride), 0));
  return new Set(sums.flatMap((sum) => [sum, 3 * sum]));
}

// Models that also cut objects out have coefficients behind the classes, as many as there are masks.
function masksOf(outputs) {
  const masks = outputs.find(({ shape }) => shape.length === 4 && shape[1] > 1 && shape[2] > 1 && shape[3] > 1);
  return masks ? masks.shape[1] : 0;
}
