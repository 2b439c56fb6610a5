"""Reads what a GGUF file says about its model and tokenizer; does not read the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import InvalidArgument

MAGIC = b"GGUF"
_SAMPLING = {
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
"""Names in generation_config.json, and llama.cpp's under general.sampling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTokenizer:
    """The tokenizer as stored under tokenizer.ggml.*; tokens, types and scores are indexed by token id."""

    model: str
    """Its kind: "gpt2" is byte-level BPE, "llama" is SentencePiece."""
    pre: str
    """Name of the pre-tokenizer; "" when the file names none."""
    tokens: Sequence[str]
    types: Sequence[int]
    """The gguf.TokenType of each token."""
    merges: Sequence[str]
    scores: Sequence[float]
    special_ids: Mapping[str, int]
    """Token ids by name ("bos", "eos", "eot", "eom", "unknown", ...), if given and in the vocabulary."""
    add_bos: bool | None
    """Whether a prompt begins with the bos token; None when the file does not say."""
    add_space_prefix: bool | None
    """Whether a space is put before the text; None when the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufModel:
    """What the file says about the model."""

    architecture: str
    hyperparameters: Mapping[str, Any]
    """Scalars of the architecture's section, without its prefix: "context_length", "block_count", ..."""
    name: str
    chat_template: str | None
    sampling: Mapping[str, float]
    """How its makers want answers sampled, by the names of generation_config.json; empty if they do not say."""
    tokenizer: GgufTokenizer

    @property
    def context_length(self) -> int:
        """Longest prompt and output together, in tokens."""
        return int(self.hyperparameters["context_length"])


def is_gguf(path: Path) -> bool:
    """Whether the file begins with the letters GGUF."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> GgufModel:
    """Reads the metadata. Raises InvalidArgument if the file is not GGUF, is cut short, or holds no language model."""
    from infermesh_client.gguf_metadata.quick_reader import QuickReader  # noqa: PLC0415 - slow to import, and needed for GGUF files only

    if not is_gguf(path):
        raise InvalidArgument(f"{path} is not a GGUF file: it does not begin with the letters GGUF")
    try:
        fields = QuickReader(path).fields
        return _model(path, fields)
    except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
        raise InvalidArgument(f"{path} is cut short, damaged, or not a language model: {error}") from error


def _model(path: Path, fields: Mapping[str, Any]) -> GgufModel:
    architecture = str(_required(fields, "general.architecture"))
    prefix = f"{architecture}."
    _required(fields, f"{prefix}context_length")
    hyperparameters = {
        name.removeprefix(prefix): field.contents()
        for name, field in fields.items()
        if name.startswith(prefix) and len(field.data) == 1
    }
    return GgufModel(
        architecture=architecture,
        hyperparameters=hyperparameters,
        name=str(_optional(fields, "general.name", path.stem)),
        chat_template=_optional(fields, "tokenizer.chat_template", None),
        sampling={
            name: round(fields[f"general.sampling.{key}"].contents(), 6)  # stored in 32 bits
            for name, key in _SAMPLING.items()
            if f"general.sampling.{key}" in fields
        },
        tokenizer=_tokenizer(fields),
    )


def _tokenizer(fields: Mapping[str, Any]) -> GgufTokenizer:
    tokens = _required(fields, "tokenizer.ggml.tokens")
    return GgufTokenizer(
        model=str(_required(fields, "tokenizer.ggml.model")),
        pre=str(_optional(fields, "tokenizer.ggml.pre", "")),
        tokens=tokens,
        types=_optional(fields, "tokenizer.ggml.token_type", [1] * len(tokens)),
        merges=_optional(fields, "tokenizer.ggml.merges", []),
        scores=_optional(fields, "tokenizer.ggml.scores", []),
        special_ids=_special_ids(fields, len(tokens)),
        add_bos=_optional(fields, "tokenizer.ggml.add_bos_token", None),
        add_space_prefix=_optional(fields, "tokenizer.ggml.add_space_prefix", None),
    )


def _special_ids(fields: Mapping[str, Any], vocabulary: int) -> dict[str, int]:
    begin, end = "tokenizer.ggml.", "_token_id"
    ids = {
        name[len(begin) : -len(end)]: int(field.contents())
        for name, field in fields.items()
        if name.startswith(begin) and name.endswith(end)
    }
    return {name: token for name, token in ids.items() if 0 <= token < vocabulary}


def _required(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"it has no {name}")
    return fields[name].contents()


def _optional(fields: Mapping[str, Any], name: str, default: Any) -> Any:
    return fields[name].contents() if name in fields else default
