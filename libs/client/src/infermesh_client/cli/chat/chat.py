"""Runs `infermesh chat`: one answer, an answer to piped input, or a conversation on a terminal."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.chat.answer import AnswerReader, ChatAnswer, answer_reader
from infermesh_client.cli.chat.chat_model import choose_model, is_ready
from infermesh_client.cli.chat.defaults import chat_defaults
from infermesh_client.cli.chat.questions import read_questions
from infermesh_client.cli.chat.waiting import waiting_line
from infermesh_client.cli.connection import connect
from infermesh_client.mesh.state import read_state
from infermesh_client.request import ChatMessage, Event, GenerateOptions
from infermesh_runtime.errors import InfermeshError, InvalidArgument

_NO_LIMIT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Options for every answer of a chat; None takes the model's default, or ours for models that have none."""

    system: str | None
    model: str
    device: str
    temperature: float | None
    max_tokens: int | None
    """0: as many as fit in the context."""
    images: Sequence[Path] = ()
    """Image files that the question is about; only for one question."""

    def for_generate(self, defaults: GenerateOptions) -> GenerateOptions:
        """The options in the form that the SDK takes."""
        options = GenerateOptions(**defaults, model=self.model, device=self.device)
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.max_tokens is not None:
            options["max_tokens"] = self.max_tokens or _NO_LIMIT
        return options


def run_chat(endpoint: str | None, prompt: str | None, options: ChatOptions) -> None:
    """Answers `prompt`, or piped input, or on a terminal chats until the input ends. Raises InfermeshError."""
    settings, home = load_settings()
    interactive = prompt is None and sys.stdin.isatty()
    if interactive and options.images:
        raise InvalidArgument("--image needs a question: give one as the argument or through a pipe")
    question = "" if interactive else _check_question(_read_input() if prompt is None else prompt)
    state = None if endpoint else read_state(home)
    with connect(endpoint, settings, timeout_s=None) as client:
        home_model = state.model if state else ""
        model = choose_model(client, options.model, home_model=home_model, console=error_console())
        options = replace(options, model=model)
        with answer_reader(client) as reader:
            if interactive:
                _converse(reader, options)
            else:
                _answer_once(reader, question, options)


def _read_input() -> str:
    """Reads piped input and strips it. Bytes that are not UTF-8 become lone surrogates, as they do in arguments."""
    return sys.stdin.buffer.read().decode(errors="surrogateescape").strip()


def _check_question(question: str) -> str:
    """Returns the question. Raises InvalidArgument when it is empty or not text."""
    if not question.strip():
        raise InvalidArgument("the prompt is empty; give a question as the argument or through a pipe")
    if any("\ud800" <= character <= "\udfff" for character in question):
        raise InvalidArgument("the prompt is not UTF-8 text")
    return question


def _answer_once(reader: AnswerReader, question: str, options: ChatOptions) -> None:
    history = [*_system(options), _ask(question, options.images)]
    if _answer(reader, history, options).interrupted:
        raise KeyboardInterrupt


def _ask(question: str, images: Sequence[Path]) -> ChatMessage:
    """The question, after the images that it is about."""
    if not images:
        return ChatMessage(role="user", content=question)
    return ChatMessage(role="user", content="", parts=[*images, question])


def _converse(reader: AnswerReader, options: ChatOptions) -> None:
    console = error_console()
    console.print(
        f"Talking to {options.model}. Ctrl-C stops an answer, Ctrl-D ends the chat, /clear starts a new conversation.",
        style="dim",
    )
    history = _system(options)
    for question in read_questions():
        if question == "/clear":
            history = _system(options)
            continue
        history.append(ChatMessage(role="user", content=question))
        try:
            answer = _answer(reader, history, options)
        except InfermeshError as error:
            history.pop()  # otherwise the next question would fail for the same reason
            console.print(f"error: {error.message}", style="red", markup=False, soft_wrap=True)
        else:
            history.append(ChatMessage(role="assistant", content=answer.text))


def _answer(reader: AnswerReader, history: list[ChatMessage], options: ChatOptions) -> ChatAnswer:
    """Streams one answer to the terminal; Ctrl-C stops it and keeps the text so far."""
    report = reader.health()
    wanted = options.for_generate(chat_defaults(report, options.model))
    loading = not is_ready(report, options.model)
    text = f"Loading {options.model}" if loading else f"Waiting for {options.model}"
    answer = ChatAnswer()
    try:
        with waiting_line(error_console(), text, loading=loading) as arrived:

            def show(event: Event) -> None:
                arrived()
                _show(event, answer)

            reader.read(history, wanted, show)
    except KeyboardInterrupt:
        answer.interrupted = True
    finally:
        if answer.text:
            print(flush=True)
    _dim(error_console(), answer.describe())
    return answer


def _show(event: Event, answer: ChatAnswer) -> None:
    match event:
        case inference_pb2.Started():
            answer.started = event
        case inference_pb2.Delta():
            answer.add(event)
            sys.stdout.write(event.text)
            sys.stdout.flush()
        case inference_pb2.Finished():
            answer.cut = event.finish_reason == inference_pb2.FINISH_REASON_LENGTH


def _dim(console: Console, line: str) -> None:
    console.print(line, style="dim", markup=False, soft_wrap=True)


def _system(options: ChatOptions) -> list[ChatMessage]:
    return [ChatMessage(role="system", content=options.system)] if options.system else []
