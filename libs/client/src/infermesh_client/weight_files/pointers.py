"""Recognises Git LFS pointers: the few lines that Git leaves where a large file was not downloaded."""

import re
from pathlib import Path

from infermesh_runtime.errors import InvalidArgument

_BEGIN = b"version https://git-lfs.github.com/spec/"
_LONGEST_BYTES = 1024


def check_no_pointer(path: Path) -> None:
    """Raises InvalidArgument, with what to do, when the file is a Git LFS pointer; OSError."""
    with path.open("rb") as file:
        text = file.read(_LONGEST_BYTES)
    if not text.startswith(_BEGIN):
        return
    match = re.search(rb"^size (\d{1,15})$", text, re.MULTILINE)
    size = f" of {int(match[1]) / 1e6:.1f} MB" if match else ""
    raise InvalidArgument(
        f"{path} is a Git LFS pointer, not the file{size} itself: run `git lfs pull` in {path.absolute().parent}"
    )
