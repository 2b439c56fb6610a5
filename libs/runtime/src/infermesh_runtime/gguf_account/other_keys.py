"""Accounts for the keys of a GGUF file that are outside its architecture's section."""

from collections.abc import Mapping
from typing import Any

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.gguf_account.key_reader import unsupported

_TOKENIZER = frozenset(
    (
        "model",
        "pre",
        "tokens",
        "token_type",
        "token_type_count",
        "scores",
        "merges",
        "add_bos_token",
        "add_eos_token",
        "add_sep_token",
        "add_space_prefix",
        "remove_extra_whitespaces",
        "precompiled_charsmap",
    )
)
"""Names under tokenizer.ggml. that llama.cpp writes; infermesh_client.gguf_metadata makes the tokenizer of them."""
_SPECIAL = frozenset(
    (
        "bos",
        "eos",
        "eot",
        "eom",
        "unknown",
        "seperator",
        "padding",
        "mask",
        "cls",
        "prefix",
        "suffix",
        "middle",
        "fim_pre",
        "fim_suf",
        "fim_mid",
        "fim_pad",
        "fim_rep",
        "fim_sep",
    )
)
"""The same, of keys NAME_token_id."""
_DESCRIPTIONS = ("general.", "quantize.", "tokenizer.chat_template.", "split.tensors.")
"""Sections that describe the file or hold more chat templates, and say nothing about the model."""
_NAMED = frozenset(
    ("tokenizer.chat_template", "tokenizer.chat_templates", "tokenizer.huggingface.json", "tokenizer.rwkv.world")
)


def check_other_keys(keys: Mapping[str, Any], architecture: str) -> frozenset[str]:
    """Returns the keys outside the architecture's section; all of them are without effect on the model.

    Raises InvalidArgument for an unknown one, a file that is no model, and one part of a split model.
    """
    kind = keys.get("general.type", "model")
    if kind != "model":
        raise unsupported("general.type", kind)
    _refuse_shard(keys)
    others = [key for key in keys if not key.startswith((f"{architecture}.", "GGUF."))]
    for key in others:
        if not (_is_known(key) or (key in ("split.no", "split.count"))):
            raise unsupported(key, keys[key])
    return frozenset(others)


def _refuse_shard(keys: Mapping[str, Any]) -> None:
    count = keys.get("split.count", 1)
    if isinstance(count, int) and count > 1:
        raise InvalidArgument(
            f"this GGUF file is shard {int(keys.get('split.no', 0)) + 1} of {count} (split.count); merge the shards "
            "with llama-gguf-split --merge and import the merged file",
            fields={"split.count": "must be 1"},
        )


def _is_known(key: str) -> bool:
    if key in _NAMED or key.startswith(_DESCRIPTIONS):
        return True
    section, _, name = key.rpartition(".")
    return section == "tokenizer.ggml" and (name in _TOKENIZER or name.removesuffix("_token_id") in _SPECIAL)
