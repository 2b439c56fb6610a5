"""Owns infermesh.json, the manifest that makes a folder a model. Knows what is in it, not how the files came there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from infermesh_runtime.errors import FailedPrecondition

FILE_NAME = "infermesh.json"
SCHEMA = 1

Format = Literal["gguf", "safetensors", "openvino"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a model folder holds."""

    name: str
    source: str
    """As it was given to the import; a Hub id with the commit it was resolved to."""
    format: Format
    context_length: int
    """Longest prompt and output together, in tokens."""
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    size_bytes: int
    """Of the weights as imported, without what converters made of them."""
    created: str
    """RFC 3339, UTC."""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    """By path relative to the folder, with forward slashes; the manifest itself is not in it."""
    schema: int = SCHEMA


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes the manifest into the folder."""
    (folder / FILE_NAME).write_text(json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Reads a folder's manifest. Raises FailedPrecondition when it has none that can be read."""
    try:
        stored = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        files = {path: FileEntry(**entry) for path, entry in stored.pop("files").items()}
        return Manifest(**{**stored, "eos_token_ids": tuple(stored["eos_token_ids"]), "files": files})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FailedPrecondition(f"{folder} is no model folder: {FILE_NAME} cannot be read ({error})") from error


def list_manifests(root: Path) -> list[Manifest]:
    """The models in a root, by name. Folders without a manifest are not models; a damaged manifest raises."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [
        read_manifest(folder)
        for folder in folders
        if not folder.name.startswith(".") and (folder / FILE_NAME).is_file()
    ]
