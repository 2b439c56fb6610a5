"""Keeps batches and the state of each of their requests."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from infermesh_router.batches.store.database import Database
from infermesh_router.batches.store.files import new_id
from infermesh_router.batches.store.kept import CANCELLED, EXPIRED, RUNNING, Batch, Counts, Line
from infermesh_runtime.errors import NotFound, ResourceExhausted

_FACTS = TypeAdapter(Batch)
_UNANSWERED = """
UPDATE lines SET body = NULL, failed = 1, result = CAST(
    json_object(
        'id', 'batch_req_' || n, 'custom_id', custom_id, 'response', NULL,
        'error', json_object('code', ?, 'message', ?)
    ) || char(10) AS BLOB
) WHERE batch = ? AND failed IS NULL
"""
"""Ends requests without an answer; takes a code, a message and the batch."""
_REASONS = {
    EXPIRED: ("batch_expired", "The batch's time was over before this request was answered."),
    CANCELLED: ("batch_cancelled", "The batch was cancelled before this request was answered."),
}


class Batches:
    """The batches in a database. For one thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch: Batch, lines: Sequence[Line]) -> None:
        """Keeps a new batch. Raises ResourceExhausted beyond the bounds."""
        facts = _FACTS.dump_json(batch)
        self._database.hold(len(facts) + sum(len(line.body) + len(line.custom_id.encode()) for line in lines))
        rows: list[tuple[object, ...]] = [(batch.id, n, line.custom_id, line.body) for n, line in enumerate(lines)]
        with self._database:
            self._database.run("INSERT INTO batches VALUES (?, ?, ?, ?)", batch.id, batch.owner, batch.created_s, facts)
            self._database.together("INSERT INTO lines VALUES (?, ?, ?, ?, NULL, NULL)", rows)

    def get(self, owner: str, batch_id: str) -> Batch:
        """A batch with its counts. Raises NotFound."""
        row = self._database.one("SELECT facts FROM batches WHERE id = ? AND owner = ?", batch_id, owner)
        if row is None:
            raise NotFound(f"No batch '{batch_id[:80]}' is kept here.", reason="BATCH_NOT_FOUND")
        return self._counted(row[0])

    def listed(self, owner: str) -> list[Batch]:
        """The batches of an owner with their counts, the oldest first."""
        rows = self._database.run("SELECT facts FROM batches WHERE owner = ? ORDER BY rowid", owner).fetchall()
        return [self._counted(facts) for (facts,) in rows]

    def running(self) -> list[Batch]:
        """The batches of all owners that have not ended, the oldest first."""
        rows = self._database.run("SELECT facts FROM batches ORDER BY rowid").fetchall()
        found = (_FACTS.validate_json(facts) for (facts,) in rows)
        return [batch for batch in found if batch.state == RUNNING]

    def pending(self, batch_id: str) -> list[int]:
        """The numbers of the requests that have not ended."""
        rows = self._database.run("SELECT n FROM lines WHERE batch = ? AND failed IS NULL ORDER BY n", batch_id)
        return [n for (n,) in rows]

    def head(self, batch_id: str, n: int) -> tuple[str, int]:
        """The caller's id of a request that has not ended, and the size of its body; "" if the batch is gone."""
        query = "SELECT custom_id, coalesce(length(body), 0) FROM lines WHERE batch = ? AND n = ?"
        custom_id, size_bytes = self._database.one(query, batch_id, n) or ("", 0)
        return str(custom_id), int(size_bytes)

    def body(self, batch_id: str, n: int) -> bytes:
        """What is asked by a request that has not ended: JSON."""
        (body,) = self._database.one("SELECT body FROM lines WHERE batch = ? AND n = ?", batch_id, n) or (None,)
        return bytes(body or b"{}")

    def end_line(self, batch_id: str, n: int, result: bytes, *, failed: bool) -> None:
        """Keeps the answer to a request in the place of the request; if there is no room for it, that there is none."""
        (size,) = self._database.one("SELECT length(body) FROM lines WHERE batch = ? AND n = ?", batch_id, n) or (0,)
        self._database.release(size or 0)
        try:
            self._database.hold(len(result))
        except ResourceExhausted as error:
            self._database.run(f"{_UNANSWERED} AND n = ?", "no_room", error.message, batch_id, n)
        else:
            query = "UPDATE lines SET body = NULL, failed = ?, result = ? WHERE batch = ? AND n = ?"
            self._database.run(query, failed, result, batch_id, n)

    def end(self, batch_id: str, owner: str, state: str) -> None:
        """Ends a batch that runs, and makes the files of its answers and errors. One that is gone stays so."""
        try:
            batch = self.get(owner, batch_id)
        except NotFound:  # it was too old
            return
        if batch.state != RUNNING:
            return
        with self._database:
            if state in _REASONS:
                self._database.run(_UNANSWERED, *_REASONS[state], batch_id)
            ended = replace(
                batch,
                state=state,
                ended_s=self._database.now_s(),
                output_file=self._add_file(batch, failed=False),
                error_file=self._add_file(batch, failed=True),
            )
            self._database.run("UPDATE batches SET facts = ? WHERE id = ?", _FACTS.dump_json(ended), batch_id)
        self._database.drop_old()

    def _add_file(self, batch: Batch, *, failed: bool) -> str | None:
        """The id of the file of answers or errors; None if there are none."""
        query = "SELECT sum(length(result)) FROM lines WHERE batch = ? AND failed = ?"
        (size,) = self._database.one(query, batch.id, failed) or (None,)
        if size is None:
            return None
        file_id, name = new_id("file-"), f"{batch.id}_{'errors' if failed else 'output'}.jsonl"
        self._database.run(
            "INSERT INTO files VALUES (?, ?, ?, 'batch_output', ?, ?, NULL, ?, ?)",
            *(file_id, batch.owner, name, self._database.now_s(), size, batch.id, failed),
        )
        return file_id

    def _counted(self, facts: bytes) -> Batch:
        batch = _FACTS.validate_json(facts)
        query = "SELECT count(*), total(failed = 0), total(failed = 1) FROM lines WHERE batch = ?"
        total, completed, failed = self._database.one(query, batch.id) or (0, 0, 0)
        return replace(batch, counts=Counts(total=total, completed=int(completed), failed=int(failed)))
