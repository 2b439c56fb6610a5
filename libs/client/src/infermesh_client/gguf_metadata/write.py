"""Writes the files that a model folder needs beside a GGUF file: tokenizer.json, chat_template.jinja, config.json."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infermesh_client.gguf_metadata.reader import GgufModel, GgufTokenizer, read_gguf

_END_TOKENS = frozenset(
    (
        "<|im_end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<end_of_turn>",
        "<turn|>",
        "<EOT>",
        "<｜end▁of▁sentence｜>",
        "<|return|>",
        "<|call|>",
    )
)
"""Control tokens that end a turn or a text in every model that has them; the list is llama.cpp's."""
_CONTROL = 3
_TOKEN_NAMES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
"""GGUF's names of special tokens, and their names in chat templates."""
_CONFIG_NAMES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}
"""GGUF hyperparameters, and their names in Hugging Face configurations."""


def write_metadata(gguf: Path, folder: Path, *, beside: Path) -> GgufModel:
    """Writes tokenizer.json, config.json and, if the model has them, chat template and generation_config.json.

    Except for config.json, one in `beside` (the folder that the GGUF file came from) is copied instead.
    Raises InvalidArgument when the GGUF file is not one of a language model, or its tokenizer is unknown.
    """
    model = read_gguf(gguf)
    if not _take("tokenizer.json", beside, folder):
        _write_tokenizer(model, folder)
    if not _take("chat_template.jinja", beside, folder) and model.chat_template:
        (folder / "chat_template.jinja").write_text(model.chat_template, encoding="utf-8")
    if not _take("generation_config.json", beside, folder) and model.sampling:
        (folder / "generation_config.json").write_text(json.dumps(model.sampling, indent=2) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_config(model), indent=2) + "\n", encoding="utf-8")
    return model


def end_token_ids(tokenizer: GgufTokenizer) -> Sequence[int]:
    """Ids of the tokens that end an output, ascending: those that the file names, and well-known control tokens."""
    named = {tokenizer.special_ids[name] for name in ("eos", "eot", "eom") if name in tokenizer.special_ids}
    known = {
        index
        for index, (token, kind) in enumerate(zip(tokenizer.tokens, tokenizer.types, strict=True))
        if kind == _CONTROL and token in _END_TOKENS
    }
    return sorted(named | known)


def _special_tokens(stored: GgufTokenizer) -> dict[str, str]:
    ids = stored.special_ids
    return {name: stored.tokens[ids[key]] for key, name in _TOKEN_NAMES.items() if key in ids}


def _take(name: str, beside: Path, folder: Path) -> bool:
    """Copies a file that is beside the GGUF file, which a download has in the folder already. Whether there is one."""
    if not (beside / name).is_file():
        return False
    if beside != folder:
        shutil.copyfile(beside / name, folder / name)
    return True


def _write_tokenizer(model: GgufModel, folder: Path) -> None:
    from infermesh_client.gguf_metadata.tokenizer import build_tokenizer  # noqa: PLC0415 - only needed when no tokenizer.json is given

    build_tokenizer(model.tokenizer).save(str(folder / "tokenizer.json"))


def _config(model: GgufModel) -> dict[str, Any]:
    stored = model.tokenizer
    known = {_CONFIG_NAMES[name]: value for name, value in model.hyperparameters.items() if name in _CONFIG_NAMES}
    return {
        "model_type": model.architecture,
        "name": model.name,
        "vocab_size": len(stored.tokens),
        "bos_token_id": stored.special_ids.get("bos"),
        "eos_token_id": list(end_token_ids(stored)),
        "eot_token_id": stored.special_ids.get("eot"),
        "pad_token_id": stored.special_ids.get("padding"),
        "special_tokens": _special_tokens(stored),
        **known,
    }
