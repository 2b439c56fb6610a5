"""Finds a model in the store of an Ollama that is installed on this machine."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import InvalidArgument, NotFound

_NAME = re.compile(
    r"(?:(?P<host>[\w.-]+\.[\w.-]+(?::\d+)?)/)?(?:(?P<owner>[\w.-]+)/)?(?P<model>[\w.-]+)(?::(?P<tag>[\w.-]+))?"
)
_MEDIA = "application/vnd.ollama.image."
_LICENCE_CHARS = 80


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model in the store."""

    gguf: Path
    digest: str
    """Digest of its weights, as in sha256:..."""
    licence: str
    """First line of its licence; empty if it has none."""


def store_folder() -> Path:
    """Where Ollama keeps its models: the folder in OLLAMA_MODELS, else its default one."""
    return Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()


def find_model(name: str, store: Path) -> OllamaModel:
    """Finds NAME or NAME:TAG. Raises InvalidArgument or NotFound, which lists the models that are there."""
    match = _NAME.fullmatch(name)
    if not match or ".." in name:
        raise InvalidArgument(f"{name!r} is not the name of an Ollama model; expected NAME or NAME:TAG")
    host, owner = match["host"] or "registry.ollama.ai", match["owner"] or "library"
    path = store / "manifests" / host / owner / match["model"] / (match["tag"] or "latest")
    if not path.is_file():
        known = ", ".join(_names(store)) or "none"
        raise NotFound(f"Ollama's store {store} has no model {name!r}; it has: {known}. OLLAMA_MODELS names the store")
    layers = _layers(path)
    weights = [layer for layer in layers if layer["mediaType"] == f"{_MEDIA}model"]
    if len(weights) != 1:
        raise InvalidArgument(f"{path} names {len(weights)} files of weights; exactly one can be imported")
    if any(layer["mediaType"] == f"{_MEDIA}adapter" for layer in layers):
        raise InvalidArgument(f"the Ollama model {name!r} has a LoRA adapter, which cannot be imported")
    licence = next((layer for layer in layers if layer["mediaType"] == f"{_MEDIA}license"), None)
    return OllamaModel(
        _blob(store, weights[0]["digest"], path),
        weights[0]["digest"],
        _first_line(_blob(store, licence["digest"], path)) if licence else "",
    )


def _names(store: Path) -> list[str]:
    root = store / "manifests"
    paths = sorted(path.relative_to(root).parts for path in root.glob("*/*/*/*")) if root.is_dir() else []
    return [f"{owner}/{model}:{tag}".removeprefix("library/") for _, owner, model, tag in paths]


def _layers(path: Path) -> list[dict[str, Any]]:
    try:
        layers = json.loads(path.read_bytes())["layers"]
        return [{"mediaType": str(layer["mediaType"]), "digest": str(layer["digest"])} for layer in layers]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"{path} is not a manifest of Ollama: {error}") from error


def _blob(store: Path, digest: str, manifest: Path) -> Path:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise InvalidArgument(f"{manifest} names {digest!r}, which is not a digest")
    path = store / "blobs" / digest.replace(":", "-")
    if not path.is_file():
        raise NotFound(f"{path} is missing; run `ollama pull` again")
    return path


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return next((line.strip()[:_LICENCE_CHARS] for line in file if line.strip()), "")
