"""Runs a converter or another function of a worker in a process of its own, so that a crash ends it with words."""

import multiprocessing
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from infermesh_client.model_import.progress import ProgressStep
from infermesh_runtime.errors import FailedPrecondition, InfermeshError
from infermesh_runtime.processes.parent import die_with

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class _Result:
    """What the function returned."""

    value: Any


def run_apart(entry: EntryPoint, folder: Path, step: ProgressStep, options: Mapping[str, object], log: Path) -> Any:
    """Runs the function that `entry` names, passes its progress on, and returns what it returns, which is picklable.

    `options` are its keyword arguments beside `progress`. What it prints is appended to `log`. When this returns, the
    process has ended. Raises what the function raises if that is an InfermeshError or OSError, and FailedPrecondition
    for anything else.
    """
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(entry, folder, options, sender, os.getpid(), log), daemon=True)
    error: Exception | None = None
    result: Any = None
    try:
        process.start()
        sender.close()
        with suppress(EOFError):
            while True:
                match receiver.recv():
                    case Exception() as failure:
                        error = failure
                    case _Result(value):
                        result = value
                    case fraction:
                        step.set(fraction)
        process.join()
    finally:
        receiver.close()
        if process.is_alive():
            process.terminate()
            process.join()
    if error is not None:
        raise error
    if process.exitcode:
        raise FailedPrecondition(
            f"the converter for {entry.name} crashed ({_how(process.exitcode)}); the model's files may be damaged, or "
            "its kind is one that this converter cannot handle"
        )
    return result


def _work(  # noqa: PLR0917 - a process takes its arguments by place
    entry: EntryPoint,
    folder: Path,
    options: Mapping[str, object],
    sender: "Connection[Any, Any]",
    parent: int,
    log: Path,
) -> None:
    """Runs in the other process: sends fractions of the work done and, at most once, a result or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this process
    die_with(parent)
    _print_to(log)
    try:
        function = entry.load()
        result = function(folder, **options, progress=lambda _stage, fraction: sender.send(float(fraction)))
        sender.send(_Result(result))
    except (InfermeshError, OSError) as error:
        sender.send(_sendable(error))
    except Exception as error:  # a boundary: converters are other packages' code
        sender.send(FailedPrecondition(f"the conversion for {entry.name} failed: {error}"))


def _print_to(log: Path) -> None:
    """Sends what this process and its libraries print to the log; an import's own words are its parent's."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _sendable(error: InfermeshError | OSError) -> Exception:
    """The error without what it refers to, which might not be picklable."""
    if isinstance(error, InfermeshError):
        return type(error)(error.message, reason=error.reason)
    return OSError(error.errno, error.strerror or str(error), error.filename)


def _how(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
