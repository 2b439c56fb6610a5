"""One chat: the conversation so far, the model and device it is with, and the answers to its questions."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import cast

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.boundary import Terminated
from infermesh_client.cli.chat.answer import AnswerReader, Completion, describe
from infermesh_client.cli.chat.chat_model import is_base, is_ready
from infermesh_client.cli.chat.defaults import chat_defaults
from infermesh_client.cli.chat.options import ChatOptions
from infermesh_client.cli.chat.screen import Screen
from infermesh_client.cli.models.loading import OnLoad
from infermesh_client.cli.output.describe import progress_text
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.waiting import WaitingLine, waiting_line
from infermesh_client.request import AnswerOptions, ChatMessage, GenerateOptions
from infermesh_client.smart.conversation import Conversation
from infermesh_runtime.answer_parsing.parts import Part


class Session:
    """A conversation with a model, or texts that a base model continues, each on its own."""

    def __init__(self, reader: AnswerReader, options: ChatOptions, console: SafeConsole) -> None:
        self._reader = reader
        self._console = console
        self.options = options
        self._history: list[ChatMessage] = []
        self.clear()

    def clear(self) -> None:
        """Starts a new conversation."""
        system = self.options.system
        self._history = [ChatMessage(role="system", content=system)] if system else []

    def report(self) -> inference_pb2.HealthReport:
        """What the mesh reports now. Raises InfermeshError."""
        return self._reader.health()

    def use(self, *, model: str | None = None, device: str | None = None) -> None:
        """Asks another model, or elsewhere, from the next question on; the conversation goes on."""
        self.options = replace(
            self.options,
            model=self.options.model if model is None else model,
            device=self.options.device if device is None else device,
        )

    def ask(self, question: str, images: Sequence[Path] = ()) -> bool:
        """Streams one answer to the terminal; Ctrl-C stops it and keeps the text so far. Returns whether it did.

        `images`: files that the question is about. Raises InfermeshError; the conversation is then as it was before.
        """
        report = self._reader.health()
        screen = Screen()
        if is_base(report, self.options.model) and not images:
            interrupted, line = self._complete(question, report, screen)
        else:
            interrupted, line = self._chat(_asked(question, images), report, screen)
        self._console.say(line, "dim")
        return interrupted

    def _chat(self, question: ChatMessage, report: inference_pb2.HealthReport, screen: Screen) -> tuple[bool, str]:
        asked = [*self._history, question]
        with self._waiting(report) as line:

            def show(part: Part) -> None:
                line.stop()
                screen.show(part)

            options = self._options(report)
            conversation = Conversation(self.options.model, asked, device=self.options.device, on_part=show, **options)
            interrupted = _run(lambda: self._reader.converse(conversation, self.options.model, _shown_on(line)), screen)
        answer = conversation.answer()
        said = ChatMessage(role="assistant", content=answer.text)
        self._history = [*asked, said] if interrupted else list(answer.messages)
        return interrupted, describe(answer, interrupted=interrupted)

    def _complete(self, text: str, report: inference_pb2.HealthReport, screen: Screen) -> tuple[bool, str]:
        with self._waiting(report) as line:

            def show(piece: str) -> None:
                line.stop()
                screen.write(piece)

            completion = Completion(show)
            where = {"model": self.options.model, "device": self.options.device}
            here = cast(GenerateOptions, {**self._options(report), **where})
            interrupted = _run(lambda: self._reader.complete(text, here, completion, _shown_on(line)), screen)
        return interrupted, completion.describe(interrupted=interrupted)

    def _options(self, report: inference_pb2.HealthReport) -> AnswerOptions:
        return self.options.for_answers(chat_defaults(report, self.options.model))

    def _waiting(self, report: inference_pb2.HealthReport) -> AbstractContextManager[WaitingLine]:
        loading = not is_ready(report, self.options.model)
        text = f"Loading {self.options.model}" if loading else f"Waiting for {self.options.model}"
        return waiting_line(self._console, text, loading=loading)


def _asked(question: str, images: Sequence[Path]) -> ChatMessage:
    """The question, after the images that it is about."""
    if not images:
        return ChatMessage(role="user", content=question)
    return ChatMessage(role="user", content="", parts=[*images, question])


def _shown_on(line: WaitingLine) -> OnLoad:
    return lambda model: line.add(progress_text(model))


def _run(ask: Callable[[], None], screen: Screen) -> bool:
    """Asks, and ends the answer on the screen. Returns whether Ctrl-C stopped it."""
    try:
        ask()
    except Terminated:
        raise
    except KeyboardInterrupt:
        return True
    finally:
        screen.end()
    return False
