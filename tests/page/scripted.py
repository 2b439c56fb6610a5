"""Answers chats in the browser with what a test says, at the speed that it says."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.page.pages import ChatPage

SCRIPTED = """(() => {
  const real = window.fetch;
  window.answerWith = null; // {pieces, every_ms, endless}; a piece is text, or a delta; the endless ends by isEnough
  window.fetch = (url, options) => {
    if (!window.answerWith || !String(url).endsWith("v1/chat/completions")) return real(url, options);
    window.asked = JSON.parse(options.body);
    const { pieces, every_ms, endless } = window.answerWith;
    const most = endless ? Infinity : pieces.length;
    const isOver = (sent) => (endless ? window.isEnough : sent >= most);
    const encoder = new TextEncoder();
    const line = (data) => encoder.encode(`data: ${JSON.stringify(data)}\\n\\n`);
    const body = new ReadableStream({
      async start(controller) {
        const begun = performance.now();
        for (let i = 0; !isOver(i); ) {
          const passed_ms = performance.now() - begun;
          const due = every_ms ? Math.min(most, Math.ceil(passed_ms / every_ms)) : most;
          for (; i < due; i++) {
            const usage = { prompt_tokens: 5, completion_tokens: i + 1 };
            const piece = pieces[i % pieces.length];
            const delta = typeof piece === "string" ? { content: piece } : piece;
            controller.enqueue(line({ choices: [{ index: 0, delta }], usage }));
          }
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        controller.enqueue(line({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }));
        controller.enqueue(encoder.encode("data: [DONE]\\n\\n"));
        controller.close();
      },
    });
    return Promise.resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
  };
})()"""
"""Answers chats with what a test says, at the speed that it says."""


def answer_with(chat: ChatPage, pieces: Sequence[str | Mapping[str, Any]], every_ms: float = 0) -> None:
    """Sends a message that is answered with these pieces of text, or deltas, one every so many milliseconds."""
    chat.page.evaluate("(told) => { window.answerWith = told }", {"pieces": list(pieces), "every_ms": every_ms})
    chat.send("Go")


def answer_endlessly(chat: ChatPage, piece: str, every_ms: float) -> None:
    """Sends a message that is answered with this piece of text again and again, until end_answer is called."""
    chat.page.evaluate(
        "(told) => { window.answerWith = told }", {"pieces": [piece], "every_ms": every_ms, "endless": True}
    )
    chat.send("Go")


def end_answer(chat: ChatPage) -> None:
    """Ends an answer without end."""
    chat.page.evaluate("window.isEnough = true")
