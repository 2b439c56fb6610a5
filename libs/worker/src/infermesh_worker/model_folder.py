"""Owns the model folder: its manifest `infermesh.json`, where its files are, and whether they are whole.

Knows no device and no weights format. The layout: infermesh.json, tokenizer.json, config.json, chat_template.jinja
(base models have none), the weights, and what a worker's converter added.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import msgspec
from tokenizers import Tokenizer

from infermesh_runtime.errors import FailedPrecondition

_log = logging.getLogger(__name__)

MANIFEST = "infermesh.json"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"

Count = Annotated[int, msgspec.Meta(ge=0)]
Progress = Callable[[str, int, int], None]
"""Called with (relative path, bytes done, bytes in all)."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model folder."""

    size_bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `infermesh.json` says."""

    schema: Literal[1] = 1
    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The model's name in requests."""
    source: str
    """Where it was imported from."""
    format: Literal["gguf", "safetensors", "openvino"]
    context_length: Annotated[int, msgspec.Meta(ge=1)]
    """Longest prompt and output together, in tokens."""
    eos_token_ids: list[Count]
    bos_token_id: Count | None
    size_bytes: Count
    """Of the weights."""
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    files: dict[str, FileEntry]
    """By path relative to the folder, with forward slashes; all of the folder's files but the manifest."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder whose manifest is valid and whose files have the sizes that it says."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises FailedPrecondition saying what is missing or wrong, and what to do."""
        folder = cls(path, read_manifest(path))
        folder._check_sizes()
        return folder

    @property
    def tokenizer_path(self) -> Path:
        return self.path / TOKENIZER

    def load_tokenizer(self) -> Tokenizer:
        """Raises FailedPrecondition when tokenizer.json is missing or is none."""
        try:
            return Tokenizer.from_str(self.tokenizer_path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            raise FailedPrecondition(f"{self.tokenizer_path} cannot be used: {error}") from error

    def chat_template(self) -> str | None:
        """Source of the chat template; None when the model has none."""
        path = self.path / CHAT_TEMPLATE
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def verify(self, progress: Progress | None = None) -> None:
        """Reads every file and compares its SHA-256. Raises FailedPrecondition naming the first that differs."""
        for name, entry in self.manifest.files.items():
            found = hash_file(self.path / name, name, progress)
            if found != entry:
                raise FailedPrecondition(f"{self.path / name} is not what was imported: {_again(self.manifest)}")

    def _check_sizes(self) -> None:
        for name, entry in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                raise FailedPrecondition(f"{path} is missing: {_again(self.manifest)}")
            size_bytes = path.stat().st_size
            if size_bytes != entry.size_bytes:
                raise FailedPrecondition(
                    f"{path} has {size_bytes} bytes, its manifest says {entry.size_bytes}: {_again(self.manifest)}"
                )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises FailedPrecondition when there is none or it is wrong."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FailedPrecondition(f"there is no model folder {folder}{_present(folder.parent)}")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise FailedPrecondition(
            f"{folder} is no model folder: it has no {MANIFEST}{_present(folder.parent)}"
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"{path} cannot be read: {error}") from error
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise FailedPrecondition(f"{path} names a file outside of its folder: {name}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `infermesh.json`; the last step of an import."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def describe_files(folder: Path, progress: Progress | None = None) -> Mapping[str, FileEntry]:
    """Size and SHA-256 of every file under a folder but the manifest, for a manifest's `files`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    names = [path.relative_to(folder).as_posix() for path in paths]
    return {name: hash_file(path, name, progress) for name, path in zip(names, paths, strict=True)}


def hash_file(path: Path, name: str, progress: Progress | None = None) -> FileEntry:
    """Size and SHA-256 of one file, called `name` in reports of progress."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(name, done, total)
    return FileEntry(size_bytes=done, sha256=digest.hexdigest())


def list_models(root: Path) -> list[ModelFolder]:
    """The models under a models root, by name. Folders that cannot be opened are logged and left out."""
    if not root.is_dir():
        return []
    folders = []
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or not (path / MANIFEST).is_file():
            continue
        try:
            folders.append(ModelFolder.open(path))
        except FailedPrecondition as error:
            _log.warning("model left out", extra={"folder": str(path), "reason": error.message})
    return folders


def find_model(root: Path, name: str) -> ModelFolder:
    """The model called `name` under a models root; the only one there when `name` is empty.

    Raises FailedPrecondition listing what there is.
    """
    if name:
        return ModelFolder.open(root / name)
    folders = list_models(root)
    if len(folders) != 1:
        problem = "say which one to serve with INFERMESH_MODEL" if folders else "there is no model to serve"
        raise FailedPrecondition(f"{problem}{_present(root)}")
    return folders[0]


def _present(root: Path) -> str:
    names = sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}")) if root.is_dir() else []
    if names:
        return f"; models in {root}: {', '.join(names)}"
    return f"; {root} holds no models: bring one with `infermesh models import SOURCE --name NAME`"


def _again(manifest: Manifest) -> str:
    return f"import it again with `infermesh models import {manifest.source} --name {manifest.name}`"
