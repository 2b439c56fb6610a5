"""Owns `infermesh chat`: the conversation on a terminal, one-shot and piped. Generation is the SDK's."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from rich.console import Console

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.describe import device_name
from infermesh_client.client import Client
from infermesh_client.request import Event, GenerateOptions, Message
from infermesh_runtime.errors import InfermeshError, InvalidArgument, Unavailable


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What every answer of a chat is asked with; None: the endpoint's default."""

    system: str | None
    model: str
    device: str
    temperature: float | None
    max_tokens: int | None

    def for_generate(self) -> GenerateOptions:
        """As the SDK takes them."""
        options = GenerateOptions(model=self.model, device=self.device)
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.max_tokens is not None:
            options["max_tokens"] = self.max_tokens
        return options


@dataclass(slots=True)
class Answer:
    """One answer while it comes, and how fast it came."""

    text: str = ""
    tokens: int = 0
    interrupted: bool = False
    started: inference_pb2.Started | None = None
    _begun_s: float = field(default_factory=time.monotonic)
    _first_s: float = 0.0
    _last_s: float = 0.0

    def add(self, delta: inference_pb2.Delta) -> None:
        """Counts new output."""
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s
        self.tokens += len(delta.token_ids)
        self.text += delta.text

    def describe(self) -> str:
        """Tokens, TTFT, tokens per second, and who answered."""
        parts = [f"{self.tokens} tokens"]
        if self._first_s:
            parts.append(f"TTFT {self._first_s - self._begun_s:.2f} s")
        if self.tokens > 1 and self._last_s > self._first_s:
            parts.append(f"{(self.tokens - 1) / (self._last_s - self._first_s):.1f} tokens/s")
        if self.started is not None:
            parts.append(" at ".join(filter(None, (device_name(self.started.device), self.started.endpoint))))
        return " · ".join([*parts, "stopped"] if self.interrupted else parts)


def run_chat(endpoint: str | None, prompt: str | None, options: ChatOptions) -> None:
    """Answers one prompt, or what is piped in, or chats until the end of the input. Raises InfermeshError."""
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client:
        if prompt is None and sys.stdin.isatty():
            _check_answers(client)
            _converse(client, options)
            return
        question = _read_input() if prompt is None else prompt
        if not question.strip():
            raise InvalidArgument("there is nothing to answer: the prompt is empty")
        if not _is_text(question):
            raise InvalidArgument("the prompt is not text in UTF-8")
        history = [*_system(options), Message(role="user", content=question)]
        answer = _answer(client, history, options)
        if answer.interrupted:
            raise KeyboardInterrupt


def _read_input() -> str:
    """What is piped in, without the white space around it; what is not UTF-8 as lone surrogates, as in arguments."""
    return sys.stdin.buffer.read().decode(errors="surrogateescape").strip()


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_answers(client: Client) -> None:
    """Fails before the first question rather than after it."""
    if not client.models():
        raise Unavailable("no model is served; `infermesh status` says why")


def _converse(client: Client, options: ChatOptions) -> None:
    import readline  # noqa: F401, PLC0415 - input() gets line editing and history by its import

    console = error_console()
    console.print("Ctrl-C stops an answer, Ctrl-D ends the chat, /clear forgets it.", style="dim")
    history = _system(options)
    for question in _questions():
        if question == "/clear":
            history = _system(options)
            continue
        history.append(Message(role="user", content=question))
        try:
            answer = _answer(client, history, options)
        except InfermeshError as error:
            history.pop()  # so that the next question does not fail for this one's reason
            console.print(f"error: {error.message}", style="red", markup=False, soft_wrap=True)
        else:
            history.append(Message(role="assistant", content=answer.text))


def _questions() -> Iterator[str]:
    """Lines that say something, until Ctrl-D, /exit, or Ctrl-C at the prompt."""
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if question in ("/exit", "/quit"):
            return
        if question:
            yield question


def _answer(client: Client, history: list[Message], options: ChatOptions) -> Answer:
    """Streams one answer to the terminal; Ctrl-C ends it and keeps what came."""
    answer = Answer()
    events: Iterator[Event] = client.generate(history, **options.for_generate())
    try:
        with closing(events):  # type: ignore[type-var] # a generator, though typed as an iterator
            for event in events:
                _show(event, answer)
    except KeyboardInterrupt:
        answer.interrupted = True
    finally:
        if answer.text:
            print(flush=True)
    _dim(error_console(), answer.describe())
    return answer


def _show(event: Event, answer: Answer) -> None:
    match event:
        case inference_pb2.Started():
            answer.started = event
        case inference_pb2.Delta():
            answer.add(event)
            sys.stdout.write(event.text)
            sys.stdout.flush()


def _dim(console: Console, line: str) -> None:
    console.print(line, style="dim", markup=False, soft_wrap=True)


def _system(options: ChatOptions) -> list[Message]:
    return [Message(role="system", content=options.system)] if options.system else []
