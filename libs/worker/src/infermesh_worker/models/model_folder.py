"""Finds model folders, checks that their files are complete, and reads tokenizer and chat template.

A model folder holds infermesh.json, tokenizer.json, config.json, chat_template.jinja (not for base models), the
weights, and what the converter of a kind of worker added.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import Manifest, hash_file, model_paths, models_hint, read_manifest

_log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder whose manifest is valid and whose files have the sizes listed there."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a folder. Raises FailedPrecondition that says what is missing or wrong, and what to do."""
        folder = cls(path, read_manifest(path))
        folder._check_sizes()
        return folder

    @property
    def tokenizer_path(self) -> Path:
        return self.path / TOKENIZER

    def load_tokenizer(self) -> Tokenizer:
        """Reads tokenizer.json. Raises FailedPrecondition when it is missing or invalid."""
        try:
            return Tokenizer.from_str(self.tokenizer_path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            raise FailedPrecondition(f"{self.tokenizer_path} cannot be used: {error}") from error

    def chat_template(self) -> str | None:
        """Source text of the chat template; None when the model has none."""
        path = self.path / CHAT_TEMPLATE
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def verify(self) -> None:
        """Compares the SHA-256 of every file. Raises FailedPrecondition that names the first file that differs."""
        for name, entry in self.manifest.files.items():
            with (self.path / name).open("rb") as file:
                found = hash_file(file)
            if found != entry:
                raise FailedPrecondition(f"{self.path / name} has changed since the import: {_again(self.manifest)}")

    def _check_sizes(self) -> None:
        for name, entry in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                raise FailedPrecondition(f"{path} is missing: {_again(self.manifest)}")
            size_bytes = path.stat().st_size
            if size_bytes != entry.size_bytes:
                raise FailedPrecondition(
                    f"{path} has {size_bytes} bytes, but its manifest says {entry.size_bytes}: {_again(self.manifest)}"
                )


def list_models(root: Path) -> list[ModelFolder]:
    """The models under a models root, sorted by name. Folders that cannot be opened are logged and left out."""
    folders = []
    for path in model_paths(root):
        try:
            folders.append(ModelFolder.open(path))
        except FailedPrecondition as error:
            _log.warning("model left out", extra={"folder": str(path), "reason": error.message})
    return folders


def find_model(root: Path, name: str) -> ModelFolder:
    """The model called `name` under a models root. When `name` is empty, the only one there that
    generates text, or the only one.

    Raises FailedPrecondition that lists the models found.
    """
    if name:
        return ModelFolder.open(root / name)
    every = list_models(root)
    folders = [folder for folder in every if folder.manifest.kind == "generate"] or every
    if len(folders) != 1:
        problem = "several models: choose one with INFERMESH_MODEL" if folders else "there is no model to serve"
        raise FailedPrecondition(f"{problem}{models_hint(root)}")
    return folders[0]


def _again(manifest: Manifest) -> str:
    return f"import it again with `infermesh models import {manifest.source} --name {manifest.name}`"
