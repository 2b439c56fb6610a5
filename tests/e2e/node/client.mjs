// Calls the native services at ADDRESS with the .proto files in PROTOS, and prints one JSON document of what came back.
// The AdminService is called at ADMIN, the address of the router that operators use.
// Usage: node client.mjs ADDRESS PROTOS MODEL ADMIN
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [address, protos, model, adminAddress] = process.argv.slice(2);
const files = ["infermesh/inference/v1/inference.proto", "infermesh/admin/v1/admin.proto"];
const options = { includeDirs: [protos], keepCase: true, enums: String, oneofs: true };
const { infermesh } = grpc.loadPackageDefinition(loadSync(files, options));
const credentials = grpc.credentials.createInsecure();
const inference = new infermesh.inference.v1.InferenceService(address, credentials);
const admin = new infermesh.admin.v1.AdminService(adminAddress, credentials);
const deadline = () => ({ deadline: Date.now() + 60_000 });

const unary = (client, method) =>
  new Promise((resolve, reject) =>
    client[method]({}, deadline(), (error, answer) => (error ? reject(error) : resolve(answer))));

async function generate(request) {
  const events = [];
  for await (const event of inference.Generate(request, deadline())) events.push(event);
  return events;
}

async function failure(request) {
  try {
    await generate(request);
  } catch (error) {
    return { code: error.code, details: error.details, hasDetails: error.metadata.get("grpc-status-details-bin").length };
  }
}

function tensorOfTokens(ids) {
  const data = Buffer.alloc(4 * ids.length);
  ids.forEach((id, i) => data.writeInt32LE(id, 4 * i));
  return { dtype: "DATA_TYPE_INT32", shape: [ids.length], data };
}

async function cancelled() {
  const call = inference.Generate({ model, text: "Once", stop: { max_tokens: 2000, ignore_eos: true } }, deadline());
  let seen = 0;
  try {
    for await (const event of call) if (event.event === "delta" && ++seen === 3) call.cancel();
  } catch (error) {
    return { code: error.code, seen };
  }
}

const short = { sampling: { temperature: 0 }, stop: { max_tokens: 8, ignore_eos: true } };
const chat = { messages: [{ role: "user", content: "Say hello." }] };
const first = await generate({ model, text: "One, two, three,", ...short });
const ids = first.flatMap((event) => event.delta?.token_ids ?? []);
const prompt = await generate({ model, token_ids: tensorOfTokens(ids), ...short });

console.log(JSON.stringify({
  health: (await unary(inference, "Health")).report,
  endpoints: (await unary(admin, "ListEndpoints")).endpoints,
  text: first,
  chat: await generate({ model, chat, ...short }),
  tokens: prompt,
  unknownModel: await failure({ model: "nobody", text: "x" }),
  badTemperature: await failure({ model, text: "x", sampling: { temperature: -1 } }),
  cancelled: await cancelled(),
}));
inference.close();
admin.close();
