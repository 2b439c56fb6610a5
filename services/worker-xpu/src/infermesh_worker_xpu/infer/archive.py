"""Reads the archive that a program of torch is saved in, as torch reads it, and refuses what is known to run code.

torch reads pickled members with Python's unpickler, which runs what their author wrote, and loads compiled libraries.
Checks of these files are no proof that they do no harm: they are imported only from people who are trusted.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument

EXPORT_HINT = "save it with torch.export.save(torch.export.export(model, inputs), 'model.pt2')"
_LEGACY_PICKLE = b"\x80"
"""First byte of files that torch.save wrote before it wrote archives."""


_NEWER = "maximum supported version"
"""In torch's error for an archive of a newer torch."""
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(LookupError, ValueError, TypeError, AttributeError),
)
"""What reading an archive raises, or its JSON where it is not of the expected form."""


class Archive:
    """The members of a saved program, by their names below the archive's one folder, as torch reads them."""

    def __init__(self, graph: Path) -> None:
        """Raises InvalidArgument if two members have one name: torch may take the one that was not checked."""
        self._reader = torch._C.PyTorchFileReader(str(graph))
        self.names: Sequence[str] = tuple(self._reader.get_all_records())
        if len({name.lower() for name in self.names}) < len(self.names):
            raise InvalidArgument(f"{graph.name} is damaged: it has two parts of one name")
        if sorted(self.names) != sorted(_names_for_python(graph)):
            raise InvalidArgument(f"{graph.name} is damaged: torch and Python find different parts in it")

    def read(self, name: str) -> bytes:
        """A member's content, which must be there."""
        return self._reader.get_record(name)

    def size(self, name: str) -> int:
        """How many bytes a member has, which must be there."""
        return self._reader.get_record_size(name)


def _names_for_python(graph: Path) -> Iterator[str]:
    """Where torch fails to load a program, it tries again with Python's reader, and takes other members."""
    with zipfile.ZipFile(graph) as archive:
        for name in archive.namelist():
            yield name.partition("/")[2]


@contextmanager
def open_archive(graph: Path) -> Iterator[Archive]:
    """Opens a saved program.

    Raises InvalidArgument for a file that is no archive, or is damaged; FailedPrecondition for one of a newer torch.
    """
    with graph.open("rb") as file:
        first = file.read(1)
    if first == _LEGACY_PICKLE:
        raise pickled(graph)
    try:
        yield Archive(graph)
    except _DAMAGE as error:
        reason = str(error).strip().partition("\n")[0][:300]
        if _NEWER in reason:
            problem = f"torch {torch.__version__} cannot read {graph.name}: {reason}"
            raise FailedPrecondition(problem, reason="MODEL_NOT_SUPPORTED") from error
        raise InvalidArgument(f"{graph.name} is no saved torch program, or is damaged: {reason}") from error


def pickled(graph: Path, what: str = "a pickled module or state dict") -> InfermeshError:
    """The error for a file that could only be read by running code that it brings."""
    return FailedPrecondition(
        f"{graph.name} holds {what}, which is not loaded, because that can run code of its author; {EXPORT_HINT}",
        reason="MODEL_NOT_SUPPORTED",
    )
