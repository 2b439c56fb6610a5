"""Reads the file that lists workers, and follows its changes.

We read the whole file at each look instead of watching for events. So a swapped ConfigMap link, a file renamed into
place and one edited in place all work on every file system, and even thousands of workers are only some kilobytes.
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
"""A change is read once the file has stayed the same for this long: somebody may still be writing it."""


def parse_worker_file(text: str, path: Path) -> tuple[Target, ...]:
    """Parses one host:port or dns:///name:port per line, ignoring blank lines and # comments.

    Raises FailedPrecondition with the number of a bad line.
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
    """Calls `on_change` with the file's targets at `load`, and after each change while `run` runs."""

    def __init__(self, path: Path, on_change: Callable[[tuple[Target, ...]], None], *, interval_s: float = 1.0) -> None:
        self._path = path
        self._on_change = on_change
        self._interval_s = interval_s
        self._seen: bytes | str | None = None
        """What the last look found: the file's bytes, or why it could not be read."""

    async def load(self) -> None:
        """Reads the file. Raises FailedPrecondition if it cannot be read or has a bad line."""
        self._seen = await asyncio.to_thread(_read, self._path)
        self._take(self._seen)

    async def run(self) -> None:
        """Follows the file until cancelled. A bad file is logged once and changes nothing."""
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
                _log.error("%s; keeping the previous workers", error.message)

    def _take(self, found: bytes | str) -> None:
        if isinstance(found, str):
            raise _refusal(self._path, found)
        try:
            text = found.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = found.count(b"\n", 0, error.start) + 1
            raise _refusal(self._path, f"line {line}: not UTF-8; save the file as UTF-8") from None
        targets = parse_worker_file(text, self._path)
        _log.info("%s lists %d workers", self._path, len(targets))
        self._on_change(targets)


def _read(path: Path) -> bytes | str:
    """The file's bytes, or why it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return data if len(data) <= MAX_BYTES else f"it has more than {MAX_BYTES} bytes, which is the limit"


def _refusal(path: Path, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"Bad INFERMESH_WORKERS_FILE {path}: {what}", reason="BAD_WORKER_FILE")
