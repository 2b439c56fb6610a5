"""Makes a byte-level BPE tokenizer of vocab.json and merges.txt, as the class in tokenizer_config.json does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, processors
from tokenizers.models import BPE

from infermesh_client.gguf_metadata.pretokenizers import PRE_TOKENIZERS
from infermesh_runtime.errors import InvalidArgument

VOCABULARY, MERGES, ADDED = "vocab.json", "merges.txt", "added_tokens.json"
_END = "<|endoftext|>"
_GPT2_TOKENS = {"unk_token": _END, "bos_token": _END, "eos_token": _END}
_QWEN_TOKENS = {"unk_token": _END, "eos_token": _END, "pad_token": _END}
_CLASSES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "GPT2Tokenizer": ("default", _GPT2_TOKENS),
    "CodeGenTokenizer": ("default", _GPT2_TOKENS),
    "GPTNeoXTokenizer": ("olmo", _GPT2_TOKENS),
    "Qwen2Tokenizer": ("qwen2", _QWEN_TOKENS),
    "Qwen3_5Tokenizer": ("qwen35", _QWEN_TOKENS),
}
"""By transformers' class, which may end in "Fast": how text is split, and the special tokens where none are given."""
_OF_MODEL = {
    "GPT2Tokenizer": {"gpt2", "gpt_neo", "gptj", "gpt_bigcode", "opt", "phi", "starcoder2", "granite", "codegen"},
    "GPTNeoXTokenizer": {"gpt_neox", "olmo", "olmoe", "mpt"},
    "Qwen2Tokenizer": {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "qwen2_vl", "qwen2_5_vl"},
    "Qwen3_5Tokenizer": {"qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"},
}
"""The model types for which transformers takes a class that tokenizer_config.json does not name."""


def read_byte_bpe(folder: Path, config: Mapping[str, Any], model_type: str) -> tuple[Tokenizer, Mapping[str, Any]]:
    """The tokenizer without its added tokens, and `config` with what the class itself says of special tokens.

    `config` is tokenizer_config.json. Raises InvalidArgument for a class that we do not know, and for damaged files.
    """
    family_name, defaults = _class_of(config, model_type)
    vocabulary, merges = _read_vocabulary(folder), _read_merges(folder)
    try:
        tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # tokenizers raises bare Exception
        raise InvalidArgument(f"{MERGES} does not fit to {VOCABULARY}: {error}") from error
    family = PRE_TOKENIZERS[family_name]
    if (normalizer := family.build_normalizer()) is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = family.build(add_prefix_space=config.get("add_prefix_space") is True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {**defaults, **{"added_tokens_decoder": _added(folder, config)}, **config}


def _class_of(config: Mapping[str, Any], model_type: str) -> tuple[str, Mapping[str, str]]:
    name = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if not name or name == "PreTrainedTokenizer":
        name = next((found for found, types in _OF_MODEL.items() if model_type in types), "")
    if name not in _CLASSES:
        what = f"the tokenizer_class {name!r}" if name else f"the tokenizer of the model type {model_type!r}"
        raise InvalidArgument(
            f"{VOCABULARY} and {MERGES} say nothing of how text is split, and {what} is none of those that we know "
            f"({', '.join(_CLASSES)}); to make a tokenizer.json, use transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    return _CLASSES[name]


def _read_vocabulary(folder: Path) -> dict[str, int]:
    content = _read_json(folder / VOCABULARY)
    if not content or not all(isinstance(token_id, int) and token_id >= 0 for token_id in content.values()):
        raise InvalidArgument(f"{VOCABULARY} is not a JSON object of tokens and their ids")
    return dict(content)


def _read_merges(folder: Path) -> list[tuple[str, str]]:
    """The pairs in their order; the first line may name a version."""
    merges: list[tuple[str, str]] = []
    try:
        lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{MERGES} is not UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        if (number == 1 and line.startswith("#version")) or not line.strip():
            continue
        left, space, right = line.rstrip("\r").partition(" ")
        if not space or not left or not right or " " in right:
            raise InvalidArgument(f"line {number} of {MERGES} is not two tokens with a space between them")
        merges.append((left, right))
    return merges


def _added(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """added_tokens.json in the form of added_tokens_decoder; special are those that other files name as such."""
    added = _read_json(folder / ADDED) if (folder / ADDED).is_file() else {}
    named = json.dumps([config, _read_json(folder / "special_tokens_map.json")], ensure_ascii=False)
    return {
        str(token_id): {"content": content, "special": json.dumps(content, ensure_ascii=False) in named}
        for content, token_id in added.items()
    }


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise InvalidArgument(f"{path.name} is not a JSON object")
    return content
