"""Measures what each REST dialect costs the router for a token beyond what gRPC costs it: reading and writing its form.

`python -m benchmarks.router.front_share [--rounds 10]`. A scripted worker in this process streams the same tokens to
clients of gRPC and of each dialect, one after another in every round; the clients call the router as Envoy does. The
figure is the CPU time of the router's process for each token, the least of all rounds, since whatever else the machine
does only adds to it. The share is that less gRPC's. There are four texts: plain; the same while tools are offered,
which a parser reads; a call of a tool; and reasoning before the text. The last line is one JSON document.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.api.httpbody_pb2 import HttpBody

from benchmarks.router.overhead_parts import run_router
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import ScriptedWorker, delta
from infermesh_runtime.rpc.context import RpcContext

TOKENS = 512
"""Length of the answers. They are long, so that the cost of a request hardly counts."""
_GRPC = "grpc"
_WORDS = [
    "The",
    "mesh",
    "sends",
    "each",
    "request",
    "to",
    "the",
    "worker",
    "that",
    "will",
    "finish",
    "it",
    "first.",
    "",
]
_ARGUMENT_WORDS = ["\\n", *_WORDS]
_PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class Told:
    """What the model writes."""

    style: pb.AnswerStyle = field(default_factory=pb.AnswerStyle)
    begin: tuple[str, ...] = ()
    words: tuple[str, ...] = tuple(f" {word}" for word in _WORDS)
    end: tuple[str, ...] = ()
    offers_tools: bool = False

    @property
    def tokens(self) -> list[str]:
        """TOKENS pieces of text."""
        count = TOKENS - len(self.begin) - len(self.end)
        middle = [self.words[i % len(self.words)] for i in range(count)]
        return [*self.begin, *middle, *self.end]


_HERMES = pb.AnswerStyle(tool_format="hermes")
TEXTS = {
    "text": Told(),
    "text_with_tools": Told(_HERMES, offers_tools=True),
    "call": Told(
        _HERMES,
        begin=("<tool_call>", '\n{"name": ', '"write"', ', "arguments"', ': {"text": "'),
        words=tuple(f" {word}" for word in _ARGUMENT_WORDS),
        end=('"}}', "\n</tool_call>"),
        offers_tools=True,
    ),
    "reasoning": Told(pb.AnswerStyle(reasoning="think"), begin=("<think>",), end=("</think>", "\n\n", "Yes.")),
}
"""By the name of the model that writes them."""

_CHAT_TOOL = {"type": "function", "function": {"name": "write", "parameters": _PARAMETERS}}
_MESSAGES = [{"role": "user", "content": "Tell me something."}]
_OPENAI, _OLLAMA = "/infermesh.openai.v1.OpenAIService/", "/infermesh.ollama.v1.OllamaService/"
_LIMIT = {"max_tokens": TOKENS}
_OPTIONS = {"options": {"num_predict": TOKENS}}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one dialect asks for a stream."""

    method: str
    body: dict[str, Any]
    tool: dict[str, Any] | None = field(default_factory=lambda: _CHAT_TOOL)
    """None: it has no tools, nor a parser."""


DIALECTS = {
    "chat": Dialect(f"{_OPENAI}CreateChatCompletion", {"messages": _MESSAGES, "stream": True} | _LIMIT),
    "completions": Dialect(f"{_OPENAI}CreateCompletion", {"prompt": "Once", "stream": True} | _LIMIT, None),
    "responses": Dialect(
        f"{_OPENAI}CreateResponse",
        {"input": "Tell me something.", "stream": True, "store": False, "max_output_tokens": TOKENS},
        {"type": "function", "name": "write", "parameters": _PARAMETERS},
    ),
    "messages": Dialect(
        "/infermesh.anthropic.v1.AnthropicService/CreateMessage",
        {"messages": _MESSAGES, "stream": True} | _LIMIT,
        {"name": "write", "input_schema": _PARAMETERS},
    ),
    "ollama_chat": Dialect(f"{_OLLAMA}Chat", {"messages": _MESSAGES} | _OPTIONS),
    "ollama_generate": Dialect(f"{_OLLAMA}Generate", {"prompt": "Once"} | _OPTIONS, None),
}


async def tell(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Streams the text of the model that is asked for, a token at a time."""
    told = TEXTS[request.model]
    yield pb.GenerateResponse(started=pb.Started(model=request.model, prompt_tokens=5, answer_style=told.style))
    for piece in told.tokens:
        yield delta(piece)
        await asyncio.sleep(0)
    usage = pb.Usage(prompt_tokens=5, completion_tokens=TOKENS)
    reason = pb.FINISH_REASON_LENGTH if not told.end else pb.FINISH_REASON_STOP
    yield pb.GenerateResponse(finished=pb.Finished(finish_reason=reason, usage=usage))


def calls() -> dict[tuple[str, str], tuple[str, bytes]]:
    """The method and the request of each dialect and text, gRPC's included."""
    made: dict[tuple[str, str], tuple[str, bytes]] = {}
    for text, told in TEXTS.items():
        chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Tell me something.")])
        asked = pb.GenerateRequest(model=text, chat=chat, stop=pb.StopConditions(max_tokens=TOKENS))
        made[_GRPC, text] = "/infermesh.inference.v1.InferenceService/Generate", asked.SerializeToString()
        for name, dialect in DIALECTS.items():
            if dialect.tool is None and told.style != pb.AnswerStyle():
                continue
            tools = {"tools": [dialect.tool]} if told.offers_tools else {}
            body = json.dumps({"model": text} | dialect.body | tools).encode()
            made[name, text] = dialect.method, HttpBody(data=body, content_type="application/json").SerializeToString()
    return made


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, to the nanosecond. Linux only."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


async def read(channel: grpc.aio.Channel, method: str, request: bytes) -> bytes:
    """All messages of an answer, unparsed."""
    return b"".join([message async for message in channel.unary_stream(method)(request, wait_for_ready=True)])


async def until_known(channel: grpc.aio.Channel, method: str, request: bytes) -> None:
    """Waits until the router knows the worker."""
    async with asyncio.timeout(60):
        while True:
            try:
                await read(channel, method, request)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
            else:
                return


async def measure(rounds: int, streams: int) -> dict[str, dict[str, list[float]]]:
    """By text and dialect: the router's microseconds for a token in each round."""
    found: dict[str, dict[str, list[float]]] = {}
    worker = ScriptedWorker(script=tell, models=tuple(TEXTS))
    await worker.start()
    with ExitStack() as parts:
        address, router = run_router(parts, worker.address)
        asked = calls()
        async with grpc.aio.insecure_channel(address) as channel:
            await until_known(channel, *asked[_GRPC, "text"])
            for number in range(rounds + 1):
                for (name, text), call in asked.items():
                    before_ns = cpu_ns(router.pid)
                    answers = await asyncio.gather(*(read(channel, *call) for _ in range(streams)))
                    each_us = (cpu_ns(router.pid) - before_ns) / (streams * TOKENS * 1000)
                    if any(len(answer) < TOKENS for answer in answers):
                        raise SystemExit(f"{name} answered {text} with {min(answers, key=len)!r}")
                    print(f"round {number} {text:16s} {name:16s} {each_us:6.1f} µs", file=sys.stderr)
                    if number:  # the first round warms up
                        found.setdefault(text, {}).setdefault(name, []).append(each_us)
    await worker.stop()
    return found


def summary(figures: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Of one text, by dialect: the router's time for a token, and the dialect's share of it."""
    base = min(figures[_GRPC])
    return {
        name: {"us_per_token": round(min(own), 1), "share_us": round(min(own) - base, 1)}
        for name, own in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.router.front_share", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how many rounds to measure, after one to warm up")
    parser.add_argument("--streams", type=int, default=4, help="how many streams to run at once")
    options = parser.parse_args()
    found = uvloop.run(measure(options.rounds, options.streams))
    results = {text: summary(figures) for text, figures in found.items()}
    document = {"benchmark": "front_share", "rounds": options.rounds, "streams": options.streams, "tokens": TOKENS}
    print(json.dumps(document | {"results": results}))


if __name__ == "__main__":
    main()
