"""Owns the file that lists workers: how it is read, and that it is read again when it changes. Knows no endpoints.

The file is read as often as it is looked at: a ConfigMap that swaps its links, a file that is renamed into place and
one that is edited where it lies all work, on every file system, and a list of thousands of workers is some kilobytes.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from infermesh_router.membership.target import Target, parse_target
from infermesh_runtime.errors import FailedPrecondition

_log = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024 * 1024
_SETTLE_S = 0.1
"""Time in which whoever writes the file where it lies is done with it."""


def parse_worker_file(text: str, path: Path) -> tuple[Target, ...]:
    """One host:port or dns:///name:port a line; blank lines and what follows a # are left out.

    Raises FailedPrecondition that names the line.
    """
    targets: dict[Target, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            targets[parse_target(entry)] = None
        except ValueError as error:
            raise _refusal(path, f"line {number}: {error}") from None
    return tuple(targets)


class WorkerFile:
    """Tells `on_change` the file's targets at `load`, and after each change while `run` runs."""

    def __init__(self, path: Path, on_change: Callable[[tuple[Target, ...]], None], *, interval_s: float = 1.0) -> None:
        self._path = path
        self._on_change = on_change
        self._interval_s = interval_s
        self._seen: bytes | str | None = None
        """What was last found there: its bytes, or why it cannot be read."""

    async def load(self) -> None:
        """Reads it. Raises FailedPrecondition when it cannot be read or has a bad line."""
        self._seen = await asyncio.to_thread(_read, self._path)
        self._take(self._seen)

    async def run(self) -> None:
        """Follows it until cancelled. A bad file is logged once and changes nothing."""
        while True:
            await asyncio.sleep(self._interval_s)
            found = await asyncio.to_thread(_read, self._path)
            if found == self._seen:
                continue
            await asyncio.sleep(_SETTLE_S)
            if found != await asyncio.to_thread(_read, self._path):
                continue
            self._seen = found
            try:
                self._take(found)
            except FailedPrecondition as error:
                _log.error("%s; the workers stay as they were", error.message)

    def _take(self, found: bytes | str) -> None:
        if isinstance(found, str):
            raise _refusal(self._path, found)
        try:
            text = found.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = found.count(b"\n", 0, error.start) + 1
            raise _refusal(self._path, f"line {line}: is not UTF-8") from None
        targets = parse_worker_file(text, self._path)
        _log.info("%s lists %d workers", self._path, len(targets))
        self._on_change(targets)


def _read(path: Path) -> bytes | str:
    """The file's bytes, or why they cannot be had."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return data if len(data) <= MAX_BYTES else f"has more than {MAX_BYTES} bytes"


def _refusal(path: Path, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"INFERMESH_WORKERS_FILE {path}, {what}", reason="BAD_WORKER_FILE")
