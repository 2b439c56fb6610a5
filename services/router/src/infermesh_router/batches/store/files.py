"""Keeps files: those that clients send, and those with the answers of a batch, which are made of its lines."""

from uuid import uuid4

from infermesh_router.batches.store.database import Database
from infermesh_router.batches.store.kept import KeptFile
from infermesh_runtime.errors import NotFound

_PIECE_BYTES = 1 << 20
_PIECE_LINES = 256


class Files:
    """The files in a database. For one thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, owner: str, name: str, purpose: str, content: bytes) -> KeptFile:
        """Keeps a file. Raises ResourceExhausted beyond the bounds."""
        self._database.drop_old()
        self._database.hold(len(name.encode()) + len(content))
        made = KeptFile(
            id=new_id("file-"), name=name, purpose=purpose, created_s=self._database.now_s(), size_bytes=len(content)
        )
        self._database.run(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            *(made.id, owner, name, purpose, made.created_s, made.size_bytes, content),
        )
        return made

    def listed(self, owner: str, purpose: str) -> list[KeptFile]:
        """The files of an owner, the oldest first; of one purpose, if it is not empty."""
        rows = self._database.run(
            "SELECT id, name, purpose, created_s, bytes FROM files WHERE owner = ? AND ? IN ('', purpose) "
            "ORDER BY rowid",
            *(owner, purpose),
        )
        return [_kept(*row) for row in rows]

    def get(self, owner: str, file_id: str) -> KeptFile:
        """A file. Raises NotFound."""
        row = self._database.one(
            "SELECT id, name, purpose, created_s, bytes FROM files WHERE id = ? AND owner = ?", file_id, owner
        )
        if row is None:
            raise NotFound(f"No file '{file_id[:80]}' is kept here.", reason="FILE_NOT_FOUND")
        return _kept(*row)

    def delete(self, owner: str, file_id: str) -> None:
        """Deletes a file. Raises NotFound."""
        file = self.get(owner, file_id)
        self._database.release(len(file.name.encode()) + file.size_bytes)
        batch, failed = self._database.one("SELECT batch, failed FROM files WHERE id = ?", file_id) or (None, None)
        with self._database:
            self._database.run("DELETE FROM files WHERE id = ?", file_id)
            self._database.run("UPDATE lines SET result = NULL WHERE batch = ? AND failed = ?", batch, failed)

    def piece(self, owner: str, file_id: str, after: int) -> tuple[bytes, int]:
        """The piece behind `after`, -1 for the first, and where it ends; b"" behind the end. Raises NotFound."""
        self.get(owner, file_id)
        batch, failed = self._database.one("SELECT batch, failed FROM files WHERE id = ?", file_id) or (None, None)
        if batch is None:
            begin = after + 1
            query = "SELECT substr(content, ?, ?) FROM files WHERE id = ?"
            (content,) = self._database.one(query, begin + 1, _PIECE_BYTES, file_id) or (b"",)
            return bytes(content), begin + len(content) - 1
        query = "SELECT n, result FROM lines WHERE batch = ? AND failed = ? AND n > ? ORDER BY n LIMIT ?"
        lines, size = [], 0
        for n, result in self._database.run(query, batch, failed, after, _PIECE_LINES):
            lines.append(bytes(result))
            after, size = n, size + len(result)
            if size >= _PIECE_BYTES:
                break
        return b"".join(lines), after

    def whole(self, owner: str, file_id: str) -> bytes:
        """All of a file that a client sent. Raises NotFound."""
        self.get(owner, file_id)
        (content,) = self._database.one("SELECT content FROM files WHERE id = ?", file_id) or (None,)
        return bytes(content or b"")


def new_id(prefix: str) -> str:
    """A new id."""
    return prefix + uuid4().hex


def _kept(file_id: str, name: str, purpose: str, created_s: int, size_bytes: int) -> KeptFile:
    return KeptFile(id=file_id, name=name, purpose=purpose, created_s=created_s, size_bytes=size_bytes)
