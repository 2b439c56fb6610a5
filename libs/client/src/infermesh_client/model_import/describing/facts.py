"""Reads the facts for a model's manifest from its Hugging Face configuration files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infermesh_client.model_import.checks import check_config, check_count, is_integer
from infermesh_client.model_import.describing.image_facts import read_image_facts
from infermesh_runtime.chat_templates.environment import parse_template
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.image_facts import ImageFacts
from infermesh_runtime.manifest.model_manifest import ModelFormat

TEMPLATE = "chat_template.jinja"
_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
_TRAINED_LENGTH = "original_max_position_embeddings"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the manifest says about the model, apart from its files."""

    format: ModelFormat
    context_length: int
    """Longest prompt and output together, in tokens."""
    stated_context_length: int
    """The one that the configuration names; longer where only a part of it is served."""
    eos_token_ids: tuple[int, ...]
    """Those that generation_config.json and config.json name; there may be none."""
    bos_token_id: int | None
    images: ImageFacts | None = None
    """How it reads images; None if it takes none."""


def read_facts(folder: Path, model_format: ModelFormat) -> ModelFacts:
    """Reads config.json and generation_config.json. Raises InvalidArgument when they lack a fact or are malformed."""
    config = read_json(folder / "config.json")
    images = read_image_facts(config, partial(_read_if_there, folder)) if model_format == "safetensors" else None
    text = config.get("text_config")
    named = [config.get("eos_token_id")]
    if isinstance(text, dict):
        config = {**config, **text}
        named.append(text.get("eos_token_id"))
    generation = read_json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    check_config(config)
    context_name = next((name for name in _CONTEXT_NAMES if is_integer(config.get(name))), None)
    if context_name is None:
        raise InvalidArgument(f"config.json does not give the context length; add {_CONTEXT_NAMES[0]}")
    stated = check_count(context_name, config[context_name])
    eos = [token_id for value in (generation.get("eos_token_id"), *named) for token_id in _ids(value)]
    bos = _ids(config.get("bos_token_id"))
    return ModelFacts(
        format=model_format,
        context_length=stated if model_format == "gguf" else min([stated, *_trained_lengths(config)]),
        stated_context_length=stated,
        eos_token_ids=tuple(dict.fromkeys(eos)),
        bos_token_id=bos[0] if bos else None,
        images=images,
    )


def _trained_lengths(config: Mapping[str, Any]) -> Iterator[int]:
    """The lengths for which a model with LongRoPE was first trained, in tokens.

    Up to these its rotary positions are the same for all texts; beyond, they change with the longest text of a batch.
    """
    named = [config.get(name) for name in ("rope_parameters", "rope_scaling")]
    stated = [rope for rope in named if isinstance(rope, Mapping)]
    of_layers = [part for rope in stated for part in rope.values() if isinstance(part, Mapping)]
    for rope in (*stated, *of_layers):
        length = config.get(_TRAINED_LENGTH, rope.get(_TRAINED_LENGTH))  # in this order, as transformers reads it
        if "long_factor" in rope and is_integer(length):
            yield check_count(_TRAINED_LENGTH, length)


def write_chat_template(folder: Path) -> None:
    """Writes chat_template.jinja from tokenizer_config.json or chat_template.json, unless the file exists.

    Writes nothing for a model without a chat template.
    """
    target = folder / TEMPLATE
    if not target.is_file() and (template := stored_template(folder)):
        target.write_text(template, encoding="utf-8")


def stored_template(folder: Path) -> str | None:
    """The chat template in a folder's own file, tokenizer_config.json or chat_template.json; None for a base model."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        if (folder / name).is_file() and (template := _template_of(read_json(folder / name).get("chat_template"))):
            return template
    return None


def check_template(template: str) -> None:
    """Raises InvalidArgument, with the line, when the chat template has a syntax error."""
    try:
        parse_template(template)
    except FailedPrecondition as error:
        raise InvalidArgument(error.message) from error


def _template_of(stored: Any) -> str | None:
    """Picks the template for chats: Hugging Face stores one template, or a list of which one is named "default"."""
    if isinstance(stored, list):
        named = {entry.get("name"): entry.get("template") for entry in stored if isinstance(entry, Mapping)}
        stored = named.get("default")
    return stored if isinstance(stored, str) else None


def _ids(value: Any) -> Sequence[int]:
    values = value if isinstance(value, list) else [value]
    return [entry for entry in values if is_integer(entry) and entry >= 0]  # -1 stands for none


def _read_if_there(folder: Path, name: str) -> Mapping[str, Any]:
    return read_json(folder / name) if (folder / name).is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InvalidArgument that names the file if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidArgument(f"{path} is missing") from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgument(f"{path} is not a JSON object")
    return content
