"""Reads answers for `infermesh chat`: a Ctrl-C leaves the connection usable, and a line says who answered how fast."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from infermesh.inference.v1 import inference_pb2
from infermesh_client.aio import AsyncClient
from infermesh_client.cli.connection import beside
from infermesh_client.cli.models.loading import OnLoad, follow_load
from infermesh_client.cli.output.describe import device_name
from infermesh_client.cli.output.folding import joined
from infermesh_client.cli.output.reasons import reason_in_words
from infermesh_client.client import Client
from infermesh_client.request import Event, GenerateOptions
from infermesh_client.smart.aio import converse
from infermesh_client.smart.answer import SmartAnswer
from infermesh_client.smart.conversation import Conversation
from infermesh_client.smart.stopwatch import Stopwatch


@dataclass(slots=True)
class Completion:
    """A text that a base model continues, as it arrives."""

    on_text: Callable[[str], None]
    started: inference_pb2.Started = field(default_factory=inference_pb2.Started)
    finished: inference_pb2.Finished = field(default_factory=inference_pb2.Finished)
    watch: Stopwatch = field(default_factory=Stopwatch)

    def take(self, event: Event) -> None:
        """Takes an event of the answer."""
        match event:
            case inference_pb2.Started():
                self.started = event
            case inference_pb2.Delta():
                self.watch.take(event)
                self.on_text(event.text)
            case inference_pb2.Finished():
                self.finished = event

    def describe(self, *, interrupted: bool) -> str:
        """One line, as `describe` makes it of an answer."""
        watch, started = self.watch, self.started
        who = _who(device_name(started.device), started.endpoint, started.reason, self.finished.failovers)
        cut = self.finished.finish_reason == inference_pb2.FINISH_REASON_LENGTH
        return _line(watch.tokens, watch.ttft_s, watch.tokens_per_s, who, _end(interrupted=interrupted, cut=cut))


def describe(answer: SmartAnswer, *, interrupted: bool) -> str:
    """One line with the tokens, TTFT, tokens per second, the device and endpoint that answered, and why that one."""
    timings = answer.timings
    who = _who(answer.device, answer.endpoint, answer.reason, answer.failovers)
    end = _end(interrupted=interrupted, cut=answer.finish_reason == "length")
    return _line(answer.completion_tokens, timings.ttft_s, timings.tokens_per_s, who, end)


def _line(tokens: int, ttft_s: float, tokens_per_s: float, who: str, end: str) -> str:
    first = f"TTFT {ttft_s:.2f} s" if ttft_s else ""
    rate = f"{tokens_per_s:.1f} tokens/s" if tokens_per_s else ""
    return joined((f"{tokens} tokens", first, rate, who, end))


def _who(device: str, endpoint: str, reason: str, moves: Iterable[inference_pb2.Failover]) -> str:
    chosen = " at ".join(filter(None, (device, endpoint)))
    moved = (f"moved to {move.to_endpoint}" for move in moves)
    return joined((joined((chosen, f"({reason_in_words(reason)})" if reason else ""), " "), *moved))


def _end(*, interrupted: bool, cut: bool) -> str:
    return "stopped" if interrupted else "cut off, see --max-tokens" if cut else ""


class AnswerReader:
    """Asks the endpoint and hands over what comes. Each call raises KeyboardInterrupt at Ctrl-C.

    The calls run on an event loop, which cancels them between two steps of gRPC. In the synchronous client Ctrl-C may
    strike while gRPC holds a lock of the channel, and every later call on it then waits forever.
    """

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def health(self) -> inference_pb2.HealthReport:
        """What the endpoint reports. Raises InfermeshError."""
        return self._runner.run(self._client.health())

    def converse(self, conversation: Conversation, model: str, on_load: OnLoad) -> None:
        """Answers the conversation, which has the answer afterwards. Raises InfermeshError."""
        self._runner.run(self._following(converse(self._client, conversation), model, on_load))

    def complete(self, text: str, options: GenerateOptions, completion: Completion, on_load: OnLoad) -> None:
        """Continues the text. Raises InfermeshError."""
        work = self._complete(text, options, completion)
        self._runner.run(self._following(work, options.get("model", ""), on_load))

    async def _following(self, work: Coroutine[Any, Any, object], model: str, on_load: OnLoad) -> None:
        """Does the work, and meanwhile tells how far the load of the model is."""
        follower = asyncio.create_task(follow_load(self._client, model, on_load))
        try:
            await work
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower

    async def _complete(self, text: str, options: GenerateOptions, completion: Completion) -> None:
        async with aclosing(self._client.generate(text, **options)) as events:
            async for event in events:
                completion.take(event)


@contextmanager
def answer_reader(client: Client) -> Iterator[AnswerReader]:
    """Opens a connection for answers to the endpoint of `client`, and closes it when the block ends."""
    with asyncio.Runner() as runner:
        asynchronous = runner.run(_open(client))
        try:
            yield AnswerReader(asynchronous, runner)
        finally:
            runner.run(asynchronous.close())


async def _open(client: Client) -> AsyncClient:
    return beside(client)
