// Runs a model of tensors through the Open Inference Protocol: what it takes and gives, and one request in binary.
import { call, getJson } from "../../lib/api.js";
import { decode, encode } from "./values.js";

const JSON_BYTES = "inference-header-content-length";

const pathOf = (model) => `v2/models/${encodeURIComponent(model)}`;

// {inputs, outputs}, each a list of {name, datatype, shape}; a side of -1 is open.
export const describe = (model) => getJson(pathOf(model));

// inputs: {name, datatype, shape, data} with numbers as data; the signal stops it. Gives {name, datatype, shape, data} of each output.
export async function infer(model, inputs, signal) {
  const encoded = inputs.map(({ datatype, data }) => encode(datatype, data));
  const head = {
    inputs: inputs.map(({ name, datatype, shape }, i) => ({ name, datatype, shape, parameters: { binary_data_size: encoded[i].length } })),
    parameters: { binary_data_output: true },
  };
  const json = new TextEncoder().encode(JSON.stringify(head));
  const body = new Blob([json, ...encoded], { type: "application/octet-stream" });
  const response = await call(`${pathOf(model)}/infer`, { method: "POST", body, headers: { [JSON_BYTES]: String(json.length) }, signal });
  const bytes = new Uint8Array(await response.arrayBuffer());
  return read(bytes, Number(response.headers.get(JSON_BYTES) || bytes.length));
}

function read(bytes, jsonBytes) {
  const told = JSON.parse(new TextDecoder().decode(bytes.subarray(0, jsonBytes)));
  let at = jsonBytes;
  return told.outputs.map(({ name, datatype, shape, data, parameters }) => {
    const size = parameters?.binary_data_size;
    if (size === undefined) return { name, datatype, shape, data: data.flat(Infinity) };
    at += size;
    return { name, datatype, shape, data: decode(datatype, bytes.subarray(at - size, at)) };
  });
}
