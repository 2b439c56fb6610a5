"""What a GGUF file holds, as values: its keys, and the names, shapes and types of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor, without its data."""

    shape: tuple[int, ...]
    """Outermost dimension first, so a weight is (outputs, inputs)."""
    kind: str
    """Its GGML type, for example "Q4_K"."""


@dataclass(frozen=True, slots=True)
class GgufContents:
    """The header of one GGUF file."""

    keys: Mapping[str, Any]
    """Strings, numbers, booleans, and lists of them."""
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix of the model: rows [begin, begin + rows) of a tensor, and of a bias if it has one."""

    tensor: str
    begin: int
    rows: int
    bias: str | None = None
