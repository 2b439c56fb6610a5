"""What the user of `infermesh chat` may enter beside questions: /help, /model, /device, /clear, /bye."""

import re
from collections.abc import Callable, Mapping

from infermesh_client.cli.chat.chat_model import list_models
from infermesh_client.cli.chat.session import Session
from infermesh_client.cli.output.safe_console import SafeConsole

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(\S+))?")
_ENDS = ("bye", "exit", "quit")
HELP = """\
/model [NAME]    ask another model, or show which there are
/device [NAME]   answer elsewhere: auto, gpu, cpu, xpu, cuda, or an address
/clear           start a new conversation
/help            show this
/bye             end the chat, as Ctrl-D does
Ctrl-C           stop an answer
Up, Down         earlier questions
Lines that are pasted together are one question."""


def is_end(line: str) -> bool:
    """Whether the line ends the chat."""
    return line.removeprefix("/") in _ENDS and line.startswith("/")


def run_command(line: str, session: Session, console: SafeConsole) -> bool:
    """Does what the line says if it is a command. Returns whether it is; a question may begin with a slash too.

    Raises InfermeshError.
    """
    match = _COMMAND.fullmatch(line)
    if match is None:
        return False
    name, argument = match.group(1), match.group(2) or ""
    command = _COMMANDS.get(name)
    if command is None:
        console.say(f"there is no command /{name}; /help lists them", "red")
    else:
        command(session, argument, console)
    return True


def _model(session: Session, name: str, console: SafeConsole) -> None:
    models = list_models(session.report(), session.options.model)
    if not name:
        for model in models:
            note = "" if model.ready else "  (not loaded yet)"
            mark = "*" if model.name == session.options.model else " "
            console.say(f"{mark} {model.name}{note}")
    elif name not in {model.name for model in models}:
        names = ", ".join(model.name for model in models)
        console.say(f"there is no model {name!r}; there are: {names}", "red")
    else:
        session.use(model=name)
        _say(console, f"Talking to {name}; the conversation goes on")


def _device(session: Session, name: str, console: SafeConsole) -> None:
    if name:
        session.use(device="" if name == "auto" else name)
    _say(console, f"Answers come from: {session.options.device or 'auto'}")


def _clear(session: Session, _argument: str, console: SafeConsole) -> None:
    session.clear()
    _say(console, "A new conversation")


def _help(_session: Session, _argument: str, console: SafeConsole) -> None:
    _say(console, HELP)


def _say(console: SafeConsole, text: str) -> None:
    console.say(text, "dim")


_COMMANDS: Mapping[str, Callable[[Session, str, SafeConsole], None]] = {
    "model": _model,
    "device": _device,
    "clear": _clear,
    "help": _help,
}
