"""Runs `infermesh chat`: one answer, an answer to piped input, or a conversation on a terminal."""

import sys
from dataclasses import replace

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.chat.answer import answer_reader
from infermesh_client.cli.chat.chat_model import choose_model, is_base
from infermesh_client.cli.chat.commands import is_end, run_command
from infermesh_client.cli.chat.options import ChatOptions
from infermesh_client.cli.chat.questions import read_questions
from infermesh_client.cli.chat.quiet_typing import quiet_typing
from infermesh_client.cli.chat.session import Session
from infermesh_client.cli.connection import connect
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.mesh.state import read_state
from infermesh_runtime.errors import InfermeshError, InvalidArgument


def run_chat(endpoint: str | None, prompt: str | None, options: ChatOptions) -> None:
    """Answers `prompt`, or piped input, or on a terminal chats until the input ends. Raises InfermeshError."""
    settings, home = load_settings()
    interactive = prompt is None and sys.stdin.isatty()
    if interactive and options.images:
        raise InvalidArgument("--image needs a question: give one as the argument or through a pipe")
    question = "" if interactive else _check_question(_read_input() if prompt is None else prompt)
    state = None if endpoint else read_state(home)
    console = error_console()
    with connect(endpoint, settings, timeout_s=None) as client:
        home_model = state.model if state else ""
        model = choose_model(client, options.model, home_model=home_model, console=console)
        with answer_reader(client) as reader:
            session = Session(reader, replace(options, model=model), console)
            if interactive:
                _converse(session, console)
            elif session.ask(question, options.images):
                raise KeyboardInterrupt


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


def _converse(session: Session, console: SafeConsole) -> None:
    _greet(session, console)
    for line in read_questions():
        if is_end(line):
            return
        try:
            if not run_command(line, session, console):
                with quiet_typing():
                    session.ask(_check_question(line))
        except InfermeshError as error:
            console.say(f"error: {error.message}", "red")


def _greet(session: Session, console: SafeConsole) -> None:
    model = session.options.model
    base = is_base(session.report(), model)
    does = f"{model} is a base model: it continues your text" if base else f"Talking to {model}"
    hint = "Ctrl-C stops an answer, Ctrl-D ends the chat, /help lists commands."
    console.say(f"{does}. {hint}", "dim")
