"""Opens a GGUF file: what it holds, and the stored bytes of its tensors."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.gguf_account.contents import GgufContents, StoredTensor


class _Reader(gguf.GGUFReader):
    """gguf's reader, four times as fast: slices of an array cost less than slices of a mapped file."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> NDArray[Any]:
        if isinstance(self.data, np.memmap):
            self.data = self.data.view(np.ndarray)  # type: ignore[assignment] # a plain array has all that is read
        part: NDArray[Any] = super()._get(offset, dtype, count, override_order)
        return part


class GgufFile:
    """A file that is mapped into memory. Raises InvalidArgument if it is damaged."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = _Reader(path)
            keys = {name: field.contents() for name, field in self._reader.fields.items()}
        except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
            raise InvalidArgument(f"{path} is cut short or damaged: {error}") from error
        if self._reader.endianess != gguf.GGUFEndian.LITTLE:
            raise InvalidArgument(f"{path} is big-endian; only little-endian GGUF files are supported")
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.contents = GgufContents(keys, {name: _describe(tensor) for name, tensor in self._tensors.items()})

    def stored(self, name: str) -> NDArray[Any]:
        """A tensor as stored: float32 or float16 numbers, or [rows, bytes] uint8 for all other types."""
        tensor = self._tensors[name]
        data: NDArray[Any] = tensor.data
        return data.reshape(len(data), -1) if data.dtype == np.uint8 else data.reshape(_shape(tensor))

    def stacked(self, name: str) -> NDArray[Any]:
        """A tensor of one matrix for each expert, as stored: [experts, rows, columns], or bytes in place of columns."""
        experts, rows = _shape(self._tensors[name])[:2]
        data: NDArray[Any] = self._tensors[name].data
        return data.reshape(experts, rows, -1)

    def kind(self, name: str) -> gguf.GGMLQuantizationType:
        """The GGML type of a tensor."""
        return self._tensors[name].tensor_type

    def vector(self, name: str) -> NDArray[np.float32]:
        """A tensor of one dimension, as numbers. Raises InvalidArgument, naming it, if one is not finite."""
        values: NDArray[np.float32] = gguf.dequantize(self._tensors[name].data, self.kind(name)).astype(np.float32)
        check_finite(name, values)
        return values.reshape(-1)


def check_finite(name: str, values: NDArray[Any]) -> None:
    """Raises InvalidArgument, naming the tensor, if a value is NaN or infinite."""
    if not np.isfinite(values).all():
        raise InvalidArgument(
            f"this GGUF file's tensor {name} has values that are NaN or infinite, so the model cannot answer; "
            "download or convert it again",
            fields={name: "has values that are not finite"},
        )


def _shape(tensor: gguf.ReaderTensor) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape[::-1])


def _describe(tensor: gguf.ReaderTensor) -> StoredTensor:
    return StoredTensor(_shape(tensor), tensor.tensor_type.name)
