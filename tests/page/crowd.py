"""A mesh of many endpoints, told to the page by a script in the browser: so many workers need a larger machine."""

CROWD = """((count, every_ms, past_s) => {
  const real = window.fetch;
  const generated = new Array(count).fill(0);
  const describe = (time) => Array.from({ length: count }, (_, i) => ({
    address: `10.0.0.${i}:9000`, name: `${i % 2 ? "cuda" : "cpu"}:${i >> 1}`, runtime: "torch 2.9", state: "ready",
    message: "", breaker: "closed", failovers: 0, drain_s: (i + time) % 7, running: (i + time) % 5, waiting: 0,
    kv_cache_usage: ((i + time) % 10) / 10, generated_tokens: (generated[i] += (i * 7 + time) % 40),
    device: { kind: i % 2 ? "cuda" : "cpu", name: "A device", memory_total_bytes: 16e9, memory_free_bytes: 9e9 },
    models: [{ name: "story", kind: "generate", state: "ready", memory_bytes: 1e9, sequences: 1 }], available: [],
  }));
  const encoder = new TextEncoder();
  const line = (time) => {
    const told = { endpoints: describe(Math.round(time)), queues: [], imports: [], time };
    return encoder.encode(`event: snapshot\\nid: a-0\\ndata: ${JSON.stringify(told)}\\n\\n`);
  };
  window.fetch = (url, options) => {
    if (String(url).endsWith("mesh/v1/endpoints")) {
      return Promise.resolve(Response.json({ endpoints: describe(0), may_manage: true }));
    }
    if (!String(url).endsWith("mesh/v1/events")) return real(url, options);
    let timer = 0;
    const body = new ReadableStream({
      start(controller) {
        const begun = Date.now() / 1000;
        for (let past = -past_s; past < 0; past++) controller.enqueue(line(begun + past));
        const tell = () => {
          controller.enqueue(line(Date.now() / 1000));
          window.told = (window.told || 0) + 1;
        };
        tell();
        timer = setInterval(tell, every_ms);
      },
      cancel: () => clearInterval(timer),
    });
    return Promise.resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
  };
})"""


def crowd(count: int, *, every_ms: int = 500, past_s: int = 0) -> str:
    """A script for the page, which tells so many endpoints every so many milliseconds, after what it told of a past."""
    return f"{CROWD}({count}, {every_ms}, {past_s})"
