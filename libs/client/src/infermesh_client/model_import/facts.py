"""Owns what a folder's configuration files say about a model. Knows Hugging Face's files and no weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.model_manifest import ModelFormat

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the manifest says beside the files."""

    format: ModelFormat
    context_length: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None


def read_facts(folder: Path, model_format: ModelFormat) -> ModelFacts:
    """Reads config.json and generation_config.json. Raises InvalidArgument when they do not say what is needed."""
    config = _read_json(folder / "config.json")
    text = config.get("text_config")
    config = {**config, **text} if isinstance(text, dict) else config
    generation = _read_json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    context_length = next((config[name] for name in _CONTEXT_NAMES if isinstance(config.get(name), int)), None)
    if context_length is None:
        raise InvalidArgument(f"config.json does not say how long the context is ({_CONTEXT_NAMES[0]})")
    eos = _ids(generation.get("eos_token_id")) or _ids(config.get("eos_token_id"))
    if not eos:
        raise InvalidArgument("neither generation_config.json nor config.json names an end token (eos_token_id)")
    bos = _ids(config.get("bos_token_id"))
    return ModelFacts(
        format=model_format,
        context_length=context_length,
        eos_token_ids=tuple(eos),
        bos_token_id=bos[0] if bos else None,
    )


def write_chat_template(folder: Path) -> None:
    """Makes chat_template.jinja out of tokenizer_config.json or chat_template.json, where it is not there already.

    A base model has none; then nothing is written.
    """
    target = folder / "chat_template.jinja"
    for name in ("tokenizer_config.json", "chat_template.json"):
        if target.is_file() or not (folder / name).is_file():
            continue
        template = _template_of(_read_json(folder / name).get("chat_template"))
        if template:
            target.write_text(template, encoding="utf-8")


def _template_of(stored: Any) -> str | None:
    """Hugging Face stores one template, or a list of named ones of which "default" is for chats."""
    if isinstance(stored, list):
        named = {entry.get("name"): entry.get("template") for entry in stored if isinstance(entry, Mapping)}
        stored = named.get("default")
    return stored if isinstance(stored, str) else None


def _ids(value: Any) -> Sequence[int]:
    values = value if isinstance(value, list) else [value]
    return [entry for entry in values if isinstance(entry, int)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidArgument(f"{path.name} is missing") from error
    except ValueError as error:
        raise InvalidArgument(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgument(f"{path.name} is not a JSON object")
    return content
