// Makes a picture the tensor that a model takes, by the tensor's shape and type.
import { isFloat } from "./values.js";

const PICTURES = new Set(["UINT8", "FP16", "FP32", "FP64"]);
const ANY = -1;
const STEP = 32; // open sides are multiples of it, as many networks need them
const LONGEST = 640;
const PADDING = "rgb(114 114 114)";
const [MEAN, STD] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

// What a pixel's value in [0, 255] becomes, by its channel (0 to 2 of red, green, blue).
export const SCALES = {
  unit: { label: "0 to 1", of: (value) => value / 255 },
  bytes: { label: "0 to 255", of: (value) => value },
  signed: { label: "−1 to 1", of: (value) => value / 127.5 - 1 },
  imagenet: { label: "ImageNet's mean and spread", of: (value, channel) => (value / 255 - MEAN[channel]) / STD[channel] },
};

// Where an input has a picture's dimensions: {input, channels, height, width, channelsFirst, hasBatch}; or null.
export function layoutOf(input) {
  const { datatype, shape } = input;
  const hasBatch = shape.length === 4;
  if (!PICTURES.has(datatype) || shape.length < 3 || shape.length > 4 || (hasBatch && ![1, ANY].includes(shape[0]))) return null;
  const [first, second, third] = shape.slice(-3);
  const channelsLast = third === 3 ? first !== 3 : isChannels(third) && !isChannels(first);
  if (channelsLast) return { input, channels: third, height: first, width: second, channelsFirst: false, hasBatch };
  if (isChannels(first)) return { input, channels: first, height: second, width: third, channelsFirst: true, hasBatch };
  return null;
}

const isChannels = (side) => side === 1 || side === 3;

// The sides of the picture that the model leaves open.
export const openSides = (layout) => ["width", "height"].filter((side) => layout[side] === ANY);

// How a picture of that size lies in the tensor: the tensor's size, and the part of it that the picture takes. Open sides
// are as `how` says; else they follow from the other one, or from the picture's.
export function frameOf(layout, picture, how) {
  const aspect = picture.width / picture.height;
  const fixed = (side) => (layout[side] === ANY ? Number(how[side]) || 0 : layout[side]);
  const rounded = (value) => Math.max(STEP, Math.round(value / STEP) * STEP);
  const longest = Math.min(1, 1 / aspect) * LONGEST; // the height of a picture whose longest side is that
  const height = fixed("height") || rounded(fixed("width") ? fixed("width") / aspect : longest);
  const width = fixed("width") || rounded(fixed("height") ? height * aspect : longest * aspect);
  const shrink = Math.min(width / picture.width, height / picture.height);
  const drawn = how.fit === "pad" ? { width: picture.width * shrink, height: picture.height * shrink } : { width, height };
  return { width, height, left: (width - drawn.width) / 2, top: (height - drawn.height) / 2, drawn };
}

// The tensor of a picture, which is anything that a canvas draws. how: {scale, order: "rgb" or "bgr"}.
export function tensorOf(layout, picture, frame, how) {
  const { input, channels, channelsFirst, hasBatch } = layout;
  const { width, height } = frame;
  const pixels = draw(picture, frame);
  const scale = isFloat(input.datatype) ? SCALES[how.scale].of : SCALES.bytes.of;
  const data = isFloat(input.datatype) ? new Float32Array(width * height * channels) : new Uint8Array(width * height * channels);
  const places = width * height;
  for (let place = 0; place < places; place++) {
    for (let channel = 0; channel < channels; channel++) {
      const color = how.order === "bgr" ? channels - 1 - channel : channel;
      const value = channels === 1 ? grey(pixels, 4 * place) : pixels[4 * place + color];
      data[channelsFirst ? channel * places + place : place * channels + channel] = scale(value, color);
    }
  }
  const shape = channelsFirst ? [channels, height, width] : [height, width, channels];
  return { name: input.name, datatype: input.datatype, shape: hasBatch ? [1, ...shape] : shape, data };
}

const grey = (pixels, at) => Math.round(0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2]);

function draw(picture, { width, height, left, top, drawn }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = PADDING;
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, left, top, drawn.width, drawn.height);
  return pen.getImageData(0, 0, width, height).data;
}

// The inputs that detectors have beside the picture, by their names. Throws an Error that names one that is not known.
export function besides(inputs, frame) {
  return inputs.map(({ name, datatype, shape }) => {
    const sides = shape.map((side, i) => (side !== ANY ? side : i === 0 ? 1 : i === shape.length - 1 ? frame.width : frame.height));
    const fill = filling(name.toLowerCase(), frame);
    if (!fill) throw new Error(`The model also takes '${name}', which this page cannot make of a picture.`);
    const size = sides.reduce((product, side) => product * side, 1);
    return { name, datatype, shape: sides, data: Float64Array.from({ length: size }, (_, i) => fill(i)) };
  });
}

function filling(name, { width, height }) {
  if (name.includes("mask") || name.includes("scale")) return () => 1;
  if (name === "orig_target_sizes") return (i) => (i % 2 ? height : width); // RT-DETR and D-FINE take the width first
  if (name.includes("size") || name.includes("shape")) return (i) => (i % 2 ? width : height);
  return null;
}
