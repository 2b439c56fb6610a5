"""Reads answers for `infermesh chat`: what arrived, how fast, and a Ctrl-C that leaves the connection usable."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from infermesh.inference.v1 import inference_pb2
from infermesh_client.aio import AsyncClient
from infermesh_client.cli.describe import device_name
from infermesh_client.client import Client
from infermesh_client.request import ChatMessage, Event, GenerateOptions


@dataclass(slots=True)
class ChatAnswer:
    """One answer as it arrives, and how fast it arrived."""

    text: str = ""
    tokens: int = 0
    interrupted: bool = False
    cut: bool = False
    """Whether it ended because it had as many tokens as it may have."""
    started: inference_pb2.Started | None = None
    _begun_s: float = field(default_factory=time.monotonic)
    _first_s: float = 0.0
    _last_s: float = 0.0

    def add(self, delta: inference_pb2.Delta) -> None:
        """Adds new text and counts its tokens."""
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s
        self.tokens += len(delta.token_ids)
        self.text += delta.text

    def describe(self) -> str:
        """One line with the tokens, TTFT, tokens per second, and the device and endpoint that answered."""
        parts = [f"{self.tokens} tokens"]
        if self._first_s:
            parts.append(f"TTFT {self._first_s - self._begun_s:.2f} s")
        if self.tokens > 1 and self._last_s > self._first_s:
            parts.append(f"{(self.tokens - 1) / (self._last_s - self._first_s):.1f} tokens/s")
        if self.started is not None:
            parts.append(" at ".join(filter(None, (device_name(self.started.device), self.started.endpoint))))
        parts += ["stopped"] if self.interrupted else ["cut off, see --max-tokens"] if self.cut else []
        return " · ".join(parts)


class AnswerReader:
    """Asks the endpoint and hands over the events. Each call raises KeyboardInterrupt at Ctrl-C.

    The calls run on an event loop, which cancels them between two steps of gRPC. In the synchronous client Ctrl-C may
    strike while gRPC holds a lock of the channel, and every later call on it then waits forever.
    """

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def health(self) -> inference_pb2.HealthReport:
        """What the endpoint reports. Raises InfermeshError."""
        return self._runner.run(self._client.health())

    def read(self, history: Sequence[ChatMessage], options: GenerateOptions, on_event: Callable[[Event], None]) -> None:
        """Sends the conversation and calls `on_event` with every event of the answer. Raises InfermeshError."""
        self._runner.run(self._read(history, options, on_event))

    async def _read(
        self, history: Sequence[ChatMessage], options: GenerateOptions, on_event: Callable[[Event], None]
    ) -> None:
        async with aclosing(self._client.generate(history, **options)) as events:
            async for event in events:
                on_event(event)


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
    """A connection of its own to the endpoint of `client`, with the same key, identity, timeout and TLS."""
    return AsyncClient(
        client.endpoint,
        timeout_s=client.timeout_s,
        api_key=client.api_key,
        identity=client.identity,
        tls_ca=client.tls_ca,
    )
