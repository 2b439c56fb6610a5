"""The SQLite file of files and batches. Its calls block; one process at a time may use the file."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infermesh_router.batches.store.kept import StoreBounds
from infermesh_runtime.errors import FailedPrecondition, ResourceExhausted

_VERSION = 1
_TABLES = """
CREATE TABLE batches (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created_s INTEGER NOT NULL, facts BLOB NOT NULL
);
CREATE TABLE files (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL, created_s INTEGER NOT NULL,
    bytes INTEGER NOT NULL, content BLOB, batch TEXT REFERENCES batches (id) ON DELETE CASCADE, failed INTEGER
);
CREATE TABLE lines (
    batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, n INTEGER NOT NULL, custom_id TEXT NOT NULL,
    body BLOB, result BLOB, failed INTEGER, PRIMARY KEY (batch, n)
) WITHOUT ROWID;
CREATE INDEX files_batch ON files (batch);
CREATE INDEX lines_state ON lines (batch, failed);
"""
_HELD = """
SELECT (SELECT coalesce(sum(length(CAST(name AS BLOB)) + iif(batch IS NULL, bytes, 0)), 0) FROM files)
    + (SELECT coalesce(sum(length(facts)), 0) FROM batches)
    + (SELECT coalesce(
        sum(length(CAST(custom_id AS BLOB)) + coalesce(length(body), 0) + coalesce(length(result), 0)), 0
    ) FROM lines)
"""


class Database:
    """An open file, which counts what it holds. For one thread only."""

    def __init__(self, path: Path, bounds: StoreBounds, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the file, or makes it, readable to this user only.

        Raises sqlite3.Error and OSError; FailedPrecondition if another process uses it.
        """
        self._bounds = bounds
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        try:
            self._connection = _opened(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._held = 0
        self.drop_old()

    def close(self) -> None:
        """Closes the file, which another process may use then."""
        self._connection.close()
        os.close(self._lock)

    def run(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Runs a statement, in a transaction of its own unless one was begun."""
        return self._connection.execute(statement, values)

    def one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """The first row that a query finds."""
        row: tuple[Any, ...] | None = self.run(query, *values).fetchone()
        return row

    def together(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        """Runs a statement for each row."""
        self._connection.executemany(statement, rows)

    def now_s(self) -> int:
        """Unix time."""
        return int(self._clock())

    def hold(self, size_bytes: int) -> None:
        """Counts what is added. Raises ResourceExhausted beyond the bounds."""
        if self._held + size_bytes > self._bounds.max_bytes:
            raise ResourceExhausted(
                f"The router keeps at most {self._bounds.max_bytes} bytes of files and batches, and has {self._held}. "
                "Delete files that are no longer needed.",
                reason="FILES_TOO_LARGE",
            )
        self._held += size_bytes

    def release(self, size_bytes: int) -> None:
        """Counts what is removed."""
        self._held -= size_bytes

    def drop_old(self) -> None:
        """Drops what is too old, and counts the rest."""
        oldest_s = self.now_s() - self._bounds.max_age_s
        for table in ("files", "batches"):
            self.run(f"DELETE FROM {table} WHERE created_s < ?", oldest_s)  # noqa: S608 - names of ours
        (self._held,) = self.one(_HELD) or (0,)

    def __enter__(self) -> None:
        """A transaction."""
        self.run("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.run("COMMIT" if kind is None else "ROLLBACK")


def _locked(path: Path) -> int:
    """A lock that ends with the process. Raises FailedPrecondition if another one has it."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise FailedPrecondition(f"Another router uses {path}.", reason="FILES_IN_USE") from None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    """The file with its tables."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        for pragma in ("journal_mode = WAL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        if connection.execute("PRAGMA user_version").fetchone() != (_VERSION,):
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection
