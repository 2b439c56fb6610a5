"""The SQLite file of responses. Its calls block; several processes of one machine may use the file at the same time."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from infermesh_router.responses.store.kept import KeptItem, KeptResponse, Page, StoreBounds
from infermesh_runtime.errors import InvalidArgument, NotFound

_APPLICATION = 0x696E7265  # "inre", by which the file is recognised
_VERSION = 1
_BUSY_S = 10.0
_MAX_CHAIN = 10_000

_TABLES = """
CREATE TABLE responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, previous TEXT, created_s REAL NOT NULL, used_s REAL NOT NULL,
    bytes INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX responses_used ON responses (used_s, bytes);
CREATE INDEX responses_created ON responses (created_s);
CREATE TABLE items (
    response TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE, is_output INTEGER NOT NULL,
    position INTEGER NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (response, is_output, position)
) WITHOUT ROWID;
CREATE INDEX items_id ON items (id);
"""

_CHAIN = """
WITH RECURSIVE chain (id, previous, depth) AS (
    SELECT id, previous, 0 FROM responses WHERE id = :id AND owner = :owner
    UNION ALL
    SELECT earlier.id, earlier.previous, depth + 1 FROM chain JOIN responses AS earlier
        ON earlier.id = chain.previous AND earlier.owner = :owner WHERE depth < :limit
)
SELECT id, previous FROM chain ORDER BY depth DESC
"""
"""A response and those before it, the first one first."""


class ResponseFile:
    """Responses in a file. For one thread only."""

    def __init__(self, path: Path, bounds: StoreBounds, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the file, or makes it, readable to this user only. Raises sqlite3.Error and OSError."""
        self._bounds = bounds
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._make_tables()
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
                self._database.execute(f"PRAGMA {pragma}")
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def put(self, response: KeptResponse) -> None:
        """Keeps a response, and drops what is beyond the bounds. One larger than all that may be kept is not kept."""
        size_bytes, now_s = response.size_bytes, self._clock()
        if size_bytes > self._bounds.max_bytes:
            return
        rows = [
            (response.id, is_output, position, item.id, item.body)
            for is_output, items in enumerate((response.input, response.output))
            for position, item in enumerate(items)
        ]
        head = (response.id, response.owner, response.previous, now_s, now_s, size_bytes, response.body)
        with _Writing(self._database):
            self._database.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", head)
            self._database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
            self._shrink(now_s)

    def get(self, owner: str, response_id: str) -> bytes:
        """A response as JSON. Raises NotFound."""
        query = "SELECT body FROM responses WHERE id = ? AND owner = ? AND created_s > ?"
        row = self._database.execute(query, (response_id, owner, self._oldest_s())).fetchone()
        if row is None:
            raise _unknown(response_id)
        return bytes(row[0])

    def delete(self, owner: str, response_id: str) -> None:
        """Deletes a response. Raises NotFound."""
        with _Writing(self._database):
            query = "DELETE FROM responses WHERE id = ? AND owner = ?"
            if not self._database.execute(query, (response_id, owner)).rowcount:
                raise _unknown(response_id)

    def context(self, owner: str, response_id: str) -> tuple[bytes, ...]:
        """What a request that continues a response begins with: all items of it and of the responses before, in order.

        Counts as a use of all of them. Raises NotFound.
        """
        ids = self._chain(owner, response_id)
        with _Writing(self._database):
            touched = [(self._clock(), each) for each in ids]
            self._database.executemany("UPDATE responses SET used_s = ? WHERE id = ?", touched)
        return tuple(item.body for each in ids for item in self._items(each, (0, 1)))

    def item(self, owner: str, item_id: str) -> bytes:
        """An item as JSON; if several responses have it, as the latest has it. Raises NotFound."""
        query = (
            "SELECT items.body FROM items JOIN responses ON responses.id = items.response "
            "WHERE items.id = ? AND owner = ? AND created_s > ? ORDER BY created_s DESC LIMIT 1"
        )
        row = self._database.execute(query, (item_id, owner, self._oldest_s())).fetchone()
        if row is None:
            raise NotFound(
                f"No item '{item_id[:80]}' is kept here.", reason="ITEM_NOT_FOUND", fields={"input": "names it"}
            )
        return bytes(row[0])

    def input_items(self, owner: str, response_id: str, *, after: str, limit: int, newest_first: bool) -> Page:
        """The input of a response, the items of the responses before it included. Raises NotFound, InvalidArgument."""
        *earlier, last = self._chain(owner, response_id)
        items = [item for each in earlier for item in self._items(each, (0, 1))]
        items += self._items(last, (0,))
        if newest_first:
            items.reverse()
        begin = 0
        if after:
            ids = [item.id for item in items]
            if after not in ids:
                raise InvalidArgument(f"'after' names no input item: '{after[:80]}'.", fields={"after": "is unknown"})
            begin = ids.index(after) + 1
        page = items[begin : begin + limit]
        return Page(tuple(page), len(items) > begin + limit)

    def _chain(self, owner: str, response_id: str) -> list[str]:
        """The ids of a response and those before it. Raises NotFound, also if one of them is no longer kept."""
        self.get(owner, response_id)
        names = {"id": response_id, "owner": owner, "limit": _MAX_CHAIN}
        rows: list[tuple[str, str | None]] = self._database.execute(_CHAIN, names).fetchall()
        if (missing := rows[0][1]) is not None:
            raise NotFound(
                f"The response '{response_id}' continues '{missing[:80]}', which is no longer kept here.",
                reason="RESPONSE_NOT_FOUND",
                fields={"previous_response_id": "continues a response that is gone"},
            )
        return [row[0] for row in rows]

    def _items(self, response_id: str, kinds: Iterable[int]) -> list[KeptItem]:
        query = "SELECT id, body FROM items WHERE response = ? AND is_output = ? ORDER BY position"
        found = (self._database.execute(query, (response_id, kind)) for kind in kinds)
        return [KeptItem(id=item_id, body=bytes(body)) for rows in found for item_id, body in rows]

    def _shrink(self, now_s: float) -> None:
        """Drops what is too old, then what was used least recently, until the rest is within the bounds."""
        self._database.execute("DELETE FROM responses WHERE created_s <= ?", (now_s - self._bounds.max_age_s,))
        rows, total = self._database.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM responses").fetchone()
        oldest = self._database.execute("SELECT id, bytes FROM responses ORDER BY used_s, created_s")
        drop = []
        while rows > self._bounds.max_rows or total > self._bounds.max_bytes:
            response_id, size_bytes = oldest.fetchone()
            drop.append((response_id,))
            rows, total = rows - 1, total - size_bytes
        oldest.close()
        self._database.executemany("DELETE FROM responses WHERE id = ?", drop)

    def _oldest_s(self) -> float:
        """Responses made then or before are too old."""
        return self._clock() - self._bounds.max_age_s

    def _make_tables(self) -> None:
        """Makes the tables, unless the file has them. A file of another version loses what it has.

        Raises sqlite3.DatabaseError for a database that is not one of responses.
        """
        with _Writing(self._database):
            (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (application,) = self._database.execute("PRAGMA application_id").fetchone()
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if tables and application != _APPLICATION:
                raise sqlite3.DatabaseError("it is the database of another program")
            if tables and version == _VERSION:
                return
            for table in ("items", "responses"):
                self._database.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in filter(str.strip, _TABLES.split(";")):
                self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._database.execute(f"PRAGMA user_version = {_VERSION}")


class _Writing:
    """A transaction that has the right to write from its beginning, so that two processes wait for each other."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def _unknown(response_id: str) -> NotFound:
    return NotFound(f"No response '{response_id[:80]}' is kept here.", reason="RESPONSE_NOT_FOUND")
