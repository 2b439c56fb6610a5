// Why an endpoint was chosen, in words. docs/router.md has the list.
const REASONS = {
  only_endpoint: "the only endpoint that could be chosen",
  named_endpoint: "you named it",
  least_seconds_to_drain: "would be done first",
  kv_headroom: "about as soon as others, with more free KV cache",
  prefix_affinity: "holds the beginning of the prompt in its cache",
  prefix_hash: "its turn, by the prompt's beginning",
  session_hash: "its turn, by the conversation's id",
  session_affinity: "answered this conversation before",
  device_preference: "on the device that the model's rule prefers",
  size_rule: "on the device that models of this size prefer",
  least_cost: "costs less for each token",
  equal: "as good as the others; they take turns",
  retry: "replaces one that failed before the first token",
  cpu_overflow: "a CPU, because the accelerators are too busy",
  gpu_unavailable: "a CPU, because no accelerator can take it now",
};

const known = (words, reason) => (Object.hasOwn(words, reason || "") ? words[reason] : undefined);

export const reasonInWords = (reason) => known(REASONS, reason) || (reason || "unknown").replaceAll("_", " ");

const FAILURES = {
  STREAM_CUT: "its connection broke",
  STREAM_SILENT: "it fell silent",
  ENGINE_SILENT: "its engine fell silent",
  ENDPOINT_STOPPED: "it was stopped",
  CONNECT_TIMEOUT: "it could not be reached",
  FIRST_TOKEN_TIMEOUT: "its first token did not come",
};

export const failureInWords = (reason) => known(FAILURES, reason) || (reason || "it failed").replaceAll("_", " ").toLowerCase();
