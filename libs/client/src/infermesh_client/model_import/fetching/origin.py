"""Finds out where a model on this machine came from: its licence, and its commit in the Hub's cache."""

import re
from pathlib import Path

from infermesh_client.weight_files.gguf_header import GgufHeader

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FRONT = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)
_LICENCE = re.compile(r"^licen[sc]e:[ \t]*[\"']?([^\s\"'#][^\r\n\"'#]*)", re.MULTILINE)
_README_CHARS, _LICENCE_CHARS = 100_000, 80


def licence_in_gguf(header: GgufHeader) -> str:
    """The licence that a GGUF file names; empty when it names none."""
    licence = header.keys.get("general.license")
    return licence[:_LICENCE_CHARS] if isinstance(licence, str) else ""


def licence_beside(folder: Path) -> str:
    """The licence in the front matter of a model's README.md; empty when there is none."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            front = _FRONT.match(file.read(_README_CHARS))
    except OSError:
        return ""
    match = _LICENCE.search(front[1]) if front else None
    return match[1].strip()[:_LICENCE_CHARS] if match else ""


def revision_of(path: Path) -> str:
    """The commit of a model that lies in the Hub's cache, as in snapshots/COMMIT; empty elsewhere."""
    parts = path.parts
    place = next((number for number, part in enumerate(parts) if part == "snapshots"), None)
    if place is None or place + 1 >= len(parts) or not _COMMIT.fullmatch(parts[place + 1]):
        return ""
    return parts[place + 1]
