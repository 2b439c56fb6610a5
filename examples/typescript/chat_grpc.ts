// Asks a mesh over gRPC with nothing but the .proto files, streams the answer, and says which device gave it, why, and
// how fast. Ctrl-C cancels the request, and the device stops at once.
//
//     npm install
//     npm run grpc -- "Name three rivers."
//
// INFERMESH_GRPC names another mesh, INFERMESH_MODEL a model, INFERMESH_DEVICE where to answer (gpu, cpu, an address).
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

// What we read of the messages; protos/infermesh/inference/v1/inference.proto describes every field.
interface GenerateResponse {
  event: "started" | "delta" | "finished";
  started?: { model: string; endpoint: string; device: string; reason: string; queued_ms: number };
  delta?: { text: string; token_ids: number[] };
  finished?: { finish_reason: string; usage: { prompt_tokens: number; completion_tokens: number } };
}

const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const definition = loadSync("infermesh/inference/v1/inference.proto", {
  includeDirs: [protos],
  keepCase: true,
  enums: String,
  oneofs: true,
  defaults: true,
});
const loaded = grpc.loadPackageDefinition(definition) as any; // the names are known only once the files are read
const mesh: grpc.Client = new loaded.infermesh.inference.v1.InferenceService(
  process.env.INFERMESH_GRPC ?? "127.0.0.1:8081",
  grpc.credentials.createInsecure(),
);

function generate(request: object): grpc.ClientReadableStream<GenerateResponse> {
  const metadata = new grpc.Metadata();
  if (process.env.INFERMESH_API_KEY) metadata.set("authorization", `Bearer ${process.env.INFERMESH_API_KEY}`);
  return (mesh as any).Generate(request, metadata, { deadline: Date.now() + 120_000 });
}

async function main(question: string): Promise<void> {
  const begun = performance.now();
  let first = 0;
  let tokens = 0;
  let who = "";
  const call = generate({
    model: process.env.INFERMESH_MODEL ?? "",
    device: process.env.INFERMESH_DEVICE ?? "",
    chat: { messages: [{ role: "user", content: question }] },
    stop: { max_tokens: 200 },
  });
  process.once("SIGINT", () => call.cancel());
  for await (const message of call as AsyncIterable<GenerateResponse>) {
    if (message.started) {
      const { device, endpoint, reason } = message.started;
      who = `${device.replace("DEVICE_KIND_", "").toLowerCase()} at ${endpoint} (${reason})`;
    } else if (message.delta) {
      first ||= performance.now();
      tokens += message.delta.token_ids.length;
      process.stdout.write(message.delta.text);
    } else if (message.finished) {
      const seconds = (performance.now() - first) / 1000;
      const rate = ((tokens - 1) / seconds).toFixed(1);
      console.log(`\n[${tokens} tokens, first after ${(first - begun).toFixed(0)} ms, ${rate} tokens/s, ${who}]`);
    }
  }
}

try {
  await main(process.argv[2] ?? "Name three rivers.");
} catch (error) {
  const { code, details } = error as grpc.ServiceError;
  console.error(code === grpc.status.CANCELLED ? "\nstopped" : `error: ${details}`);
  process.exitCode = 1;
} finally {
  mesh.close();
}
