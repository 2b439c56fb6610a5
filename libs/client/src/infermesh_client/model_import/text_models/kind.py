"""Tells from a folder's small files whether its model turns texts into vectors or scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import EMBED, RERANK, ModelKind

MODULES = "modules.json"
"""sentence-transformers' list of what a text goes through."""
GRAPHS = ("onnx/model.onnx", "model.onnx")
"""Where exports keep the graph."""
_SCORES = "ForSequenceClassification"
_VECTORS = ("ForMaskedLM", "ForPreTraining")
_ENCODERS = frozenset(
    {"bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "distilbert", "modernbert", "nomic_bert"}
)
"""Model types of encoders, whose plain models are embedders."""


def text_kind(folder: Path) -> ModelKind | None:
    """The kind of the model in a folder; None: it is neither of these."""
    if not (folder / "config.json").is_file() or not _has_weights(folder):
        return None
    return kind_of(read_object(folder / "config.json"), has_modules=(folder / MODULES).is_file())


def kind_of(config: Mapping[str, Any], *, has_modules: bool) -> ModelKind | None:
    """The same by what config.json says, and whether there is a list of modules beside it."""
    architectures = [name for name in config.get("architectures") or () if isinstance(name, str)]
    if any(name.endswith(_SCORES) for name in architectures):
        return RERANK
    if has_modules:
        return EMBED
    plain = any(name.endswith(("Model", *_VECTORS)) for name in architectures) or not architectures
    return EMBED if plain and config.get("model_type") in _ENCODERS else None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no such file. Raises InvalidArgument when it is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"{path} is not a JSON object")
    return found


def export_graph(folder: Path) -> Path | None:
    """The graph of an ONNX export; None: there is none."""
    return next((folder / name for name in GRAPHS if (folder / name).is_file()), None)


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or (
        export_graph(folder) is not None and (folder / "tokenizer.json").is_file()
    )
