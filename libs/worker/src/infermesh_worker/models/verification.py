"""Compares a model's files with the SHA-256s in its manifest when it is loaded: always, the first time, or never.

The first time leaves a mark in the folder: size and time of the last change of each file. Another worker, and a later
start, then check again only if a file differs from its mark.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import msgspec

from infermesh_worker.models.model_folder import ModelFolder

Verify = Literal["always", "first", "never"]

MARK = ".verified.json"
"""Name of the mark. Hidden files are no part of a model."""

_log = logging.getLogger(__name__)


class FileMark(msgspec.Struct, frozen=True, array_like=True):
    """A file as it was when it was verified."""

    size_bytes: int
    changed_ns: int
    sha256: str


def verify_folder(folder: ModelFolder, verify: Verify) -> None:
    """Raises FailedPrecondition, which names the file, when one differs from what was imported. May take a while."""
    if verify == "never":
        return
    marks = _marks(folder)
    if verify == "first" and marks == _known_marks(folder):
        return
    _log.info("verifying the model's files", extra={"model": folder.manifest.name})
    folder.verify()
    if marks == _marks(folder):  # else something was written meanwhile
        _leave_mark(folder, marks)


def _marks(folder: ModelFolder) -> Mapping[str, FileMark]:
    stats = {name: (folder.path / name).stat() for name in folder.manifest.files}
    return {
        name: FileMark(stats[name].st_size, stats[name].st_mtime_ns, entry.sha256)
        for name, entry in folder.manifest.files.items()
    }


def _known_marks(folder: ModelFolder) -> Mapping[str, FileMark]:
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode((folder.path / MARK).read_bytes(), type=dict[str, FileMark])
    return {}


def _leave_mark(folder: ModelFolder, marks: Mapping[str, FileMark]) -> None:
    """Leaves the mark at once, as a whole. A folder that cannot be written is verified at each load."""
    temporary = folder.path / f"{MARK}.new"
    try:
        temporary.write_bytes(msgspec.json.encode(marks))
        temporary.replace(folder.path / MARK)
    except OSError as error:
        _log.info(
            "the model will be verified again at its next load, because its folder cannot be written",
            extra={"model": folder.manifest.name, "reason": str(error)},
        )
