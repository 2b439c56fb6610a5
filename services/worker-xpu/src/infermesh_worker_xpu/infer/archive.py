"""Reads the archive that a program of torch is saved in, as torch reads it, and refuses what is known to run code.

torch reads pickled members with Python's unpickler, which runs what their author wrote, and loads compiled libraries.
Checks of these files are no proof that they do no harm: they are imported only from people who are trusted.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument

EXPORT_HINT = "save it with torch.export.save(torch.export.export(model, inputs), 'model.pt2')"
_LEGACY_PICKLE = b"\x80"
"""First byte of files that torch.save wrote before it wrote archives."""


_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError),
    *(LookupError, ValueError, TypeError, AttributeError, RecursionError),
)
"""What reading an archive raises, or its JSON where it is not of the expected form."""


class Archive:
    """The members of a saved program, by their names below the archive's one folder."""

    def __init__(self, graph: Path, archive: zipfile.ZipFile) -> None:
        """Raises InvalidArgument if two members have one name: torch and Python may read different ones."""
        self._graph = graph
        self._archive = archive
        full = archive.namelist()
        if len({name.lower() for name in full}) < len(full):
            raise InvalidArgument(f"{graph.name} is damaged: it has two parts of one name")
        self._full = {name.partition("/")[2]: name for name in full}

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._full)

    def read(self, name: str) -> bytes:
        """A member's content, which must be there."""
        return self._archive.read(self._full[name])


@contextmanager
def open_archive(graph: Path) -> Iterator[Archive]:
    """Opens a saved program. Raises InvalidArgument for a file that is no archive, or is damaged."""
    with graph.open("rb") as file:
        first = file.read(1)
    if first == _LEGACY_PICKLE:
        raise pickled(graph)
    try:
        with zipfile.ZipFile(graph) as archive:
            yield Archive(graph, archive)
    except _DAMAGE as error:
        raise InvalidArgument(f"{graph.name} is no saved torch program, or is damaged: {error}") from error


def pickled(graph: Path, what: str = "a pickled module or state dict") -> InfermeshError:
    """The error for a file that could only be read by running code that it brings."""
    return FailedPrecondition(
        f"{graph.name} holds {what}, which is not loaded, because that can run code of its author; {EXPORT_HINT}",
        reason="MODEL_NOT_SUPPORTED",
    )
