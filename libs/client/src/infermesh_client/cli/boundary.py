"""Turns every error of the command into a clear message and an exit code, never a traceback."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import InfermeshError, Unauthenticated
from infermesh_runtime.settings import SettingsError, read

_INTERRUPTED = 130


class Terminated(KeyboardInterrupt):
    """SIGTERM: cleans up as Ctrl-C does, but what goes on after a Ctrl-C ends too."""


class ErrorReportingGroup(TyperGroup):
    """The root command: runs a subcommand and reports what it raises."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the subcommand. Exits with 1 for an error, 2 for bad settings or arguments, 130 for Ctrl-C."""
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except Unauthenticated as error:
            _fail(f"{error.message} The command sends the key in INFERMESH_API_KEY.", 1)
        except InfermeshError as error:
            _fail(error.message, 1)
        except SettingsError as error:
            _fail("\n".join(error.problems), 2)
        except KeyboardInterrupt:
            _fail("interrupted", _INTERRUPTED)
        except BrokenPipeError:  # the reader of our output has gone, as in `infermesh status --once | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except Exception as error:  # the outermost boundary: what comes here is a bug of ours
            _fail(f"unexpected {type(error).__name__}: {error}. This is a bug in infermesh{_keep_traceback()}.", 1)


def load_settings() -> tuple[ClientSettings, Home]:
    """Reads the settings and the folders they name. Raises SettingsError."""
    settings = read(ClientSettings)
    return settings, Home.of(settings)


def error_console() -> SafeConsole:
    """A console on stderr, for messages that are not the command's output."""
    return SafeConsole(stderr=True)


def _fail(message: str, code: int) -> None:
    error_console().say(f"error: {message}", "red")
    raise typer.Exit(code) from None


def _keep_traceback() -> str:
    """Appends the traceback to a log file and returns words that name it; empty when it cannot be written."""
    try:
        folder = Path(os.environ.get("INFERMESH_HOME", "~/.infermesh")).expanduser() / "log"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "command.log"
        with path.open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
    except OSError:
        return ""
    return f"; {path} has the details"
