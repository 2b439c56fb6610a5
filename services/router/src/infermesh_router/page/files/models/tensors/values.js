// Elements of tensors as bytes, in the types of the Open Inference Protocol.
const ARRAYS = {
  BOOL: Uint8Array, UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array, UINT64: BigUint64Array,
  INT8: Int8Array, INT16: Int16Array, INT32: Int32Array, INT64: BigInt64Array, FP32: Float32Array, FP64: Float64Array,
};
const HALVES = { FP16: fromHalf, BF16: fromBrainHalf };

export const isFloat = (datatype) => datatype.startsWith("FP") || datatype === "BF16";
export const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);

// The bytes of numbers; fractions are cut off for types of whole numbers.
export function encode(datatype, numbers) {
  if (datatype === "FP16") return new Uint8Array(Uint16Array.from(numbers, toHalf).buffer);
  if (datatype === "BF16") return new Uint8Array(Uint16Array.from(numbers, toBrainHalf).buffer);
  const Array = ARRAYS[datatype];
  if (!Array) throw new Error(`This page cannot write tensors of type ${datatype}.`);
  const whole = datatype.endsWith("INT64");
  return new Uint8Array(Array.from(numbers, whole ? (value) => BigInt(Math.trunc(value)) : undefined).buffer);
}

// The numbers, or texts, in bytes; numbers of 64 bits become the nearest that there are.
export function decode(datatype, bytes) {
  if (datatype === "BYTES") return texts(bytes);
  const own = bytes.slice().buffer; // aligned
  if (HALVES[datatype]) return Float32Array.from(new Uint16Array(own), HALVES[datatype]);
  const Array = ARRAYS[datatype];
  if (!Array) throw new Error(`This page cannot read tensors of type ${datatype}.`);
  const values = new Array(own);
  return datatype.endsWith("INT64") ? Float64Array.from(values, Number) : values;
}

function texts(bytes) {
  const found = [], view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), decoder = new TextDecoder();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const size = view.getUint32(at, true);
    found.push(decoder.decode(bytes.subarray(at + 4, at + 4 + size)));
    at += 4 + size;
  }
  return found;
}

const scratch = new DataView(new ArrayBuffer(4));

function bitsOf(value) {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function fromBits(bits) {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

const toBrainHalf = (value) => (bitsOf(value) + 0x8000) >>> 16;

function fromBrainHalf(bits) {
  return fromBits(bits * 65536);
}

function toHalf(value) {
  const bits = bitsOf(value), sign = (bits >>> 16) & 0x8000, size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const rounded = (bits & 0x7fffffff) + 0x1000; // to the 10 bits that are kept
  return sign | ((rounded - 0x38000000) >>> 13);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, rest = bits & 1023;
  if (exponent === 31) return rest ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -24 * rest);
}
