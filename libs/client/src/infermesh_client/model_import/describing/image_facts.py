"""Reads how a vision-language model takes images, from the files of its Hugging Face folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.image_facts import ImageFacts

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""Where folders say how images are prepared: in a file of its own, or in the one of the whole processor."""
Object = Mapping[str, Any]
ReadObject = Callable[[str], Object]
"""Reads the JSON object in a file of the folder; empty if there is no such file."""

_NEEDED = frozenset({"idefics3", "smolvlm", "qwen2_5_vl"})
"""Model types that no worker can serve without images."""


def read_image_facts(config: Object, read: ReadObject) -> ImageFacts | None:
    """How the model reads images; None for one that takes none, or of a type whose images no worker reads.

    `config`: config.json. Raises InvalidArgument when the files of a type that workers read lack what is needed.
    """
    model_type = config.get("model_type")
    describe = _FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if describe is None or not isinstance(config.get("vision_config"), Mapping):
        return None
    prepared = read(PREPROCESSOR) or read(PROCESSOR).get("image_processor")
    if not isinstance(prepared, Mapping) or not prepared:
        if model_type in _NEEDED:
            raise InvalidArgument(
                f"the folder has no {PREPROCESSOR}, so nobody can tell how this model of type {model_type} takes "
                "images; download the folder again, with all of its JSON files"
            )
        return None
    try:
        return msgspec.convert(describe(config, prepared, read("tokenizer_config.json")), ImageFacts)
    except (msgspec.ValidationError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise InvalidArgument(f"config.json and {PREPROCESSOR} do not say how images become tokens: {error}") from error


def check_image_tokens(folder: Path, facts: ImageFacts | None) -> None:
    """Raises InvalidArgument when tokenizer.json lacks a token that images need."""
    if facts is None:
        return
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if missing := [token for token in (facts.written, facts.seen) if tokenizer.token_to_id(token) is None]:
        raise InvalidArgument(f"tokenizer.json has no token {missing[0]!r}, which the model's images need")


def _tiles(config: Object, prepared: Object, tokens: Object) -> Object:
    edge = prepared.get("max_image_size", {}).get("longest_edge", 364)
    patches = edge // config["vision_config"].get("patch_size", 32)
    image = _name(tokens, "image_token", "<image>")
    around = _name(tokens, "fake_image_token", "<fake_token_around_image>")
    return {
        "layout": {
            "type": "tiles",
            "longest_edge": prepared.get("size", {}).get("longest_edge", 4 * edge),
            "edge": edge,
            "tokens": patches**2 // config.get("scale_factor", 2) ** 2,
            "splits": prepared.get("do_image_splitting", True),
        },
        "written": image,
        "seen": image,
        "before": around,
        "after": around,
        "overview": _name(tokens, "global_image_token", "<global-img>"),
    }


def _grid(_config: Object, prepared: Object, tokens: Object) -> Object:
    size = prepared.get("size", {})
    image = _name(tokens, "image_token", "<|image_pad|>")
    return {
        "layout": {
            "type": "grid",
            "edge": prepared.get("patch_size", 14) * prepared.get("merge_size", 2),
            "least_pixels": prepared.get("min_pixels") or size.get("shortest_edge", 56 * 56),
            "most_pixels": prepared.get("max_pixels") or size.get("longest_edge", 28 * 28 * 1280),
        },
        "written": image,
        "seen": image,
    }


def _whole(config: Object, _prepared: Object, tokens: Object) -> Object:
    begin = _name(tokens, "boi_token", "<start_of_image>")
    return {
        "layout": {"type": "whole", "tokens": config.get("mm_tokens_per_image", 256)},
        "written": begin,
        "seen": _name(tokens, "image_token", "<image_soft_token>"),
        "before": f"\n\n{begin}",
        "after": f"{_name(tokens, 'eoi_token', '<end_of_image>')}\n\n",
    }


def _name(tokens: Object, key: str, default: str) -> str:
    """The name of a special token: folders give it in tokenizer_config.json, some below extra_special_tokens."""
    extra = tokens.get("extra_special_tokens")
    for place in (tokens, extra if isinstance(extra, Mapping) else {}):
        value = place.get(key)
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str) and value:
            return value
    return default


_FAMILIES: Mapping[str, Callable[[Object, Object, Object], Object]] = {
    "idefics3": _tiles,
    "smolvlm": _tiles,
    "qwen2_5_vl": _grid,
    "gemma3": _whole,
}
