"""Reads what a reference needs of a GGUF file: hyperparameters, and tensors dequantised one at a time."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from infermesh_client.verification.comparison import NoReferenceError
from infermesh_client.weight_files.gguf_header import TensorFacts, read_header

Array = NDArray[np.float32]
_PIECE_VALUES = 1 << 22
"""Values that are dequantised at a time; numpy needs several times their memory."""


class GgufWeights:
    """The tensors of a file as float32, in numpy's order of dimensions; nothing is kept between calls."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self._keys = header.keys
        self._begin = header.data_begin
        self._bytes: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
        self._tensors = {tensor.name: tensor for tensor in header.tensors}
        self.architecture = str(self._keys["general.architecture"])

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keys of the architecture's section, without its prefix; arrays are ArrayFacts."""
        prefix = f"{self.architecture}."
        return {name.removeprefix(prefix): value for name, value in self._keys.items() if name.startswith(prefix)}

    @property
    def names(self) -> frozenset[str]:
        """Names of all tensors."""
        return frozenset(self._tensors)

    def __getitem__(self, name: str) -> Array:
        """Raises NoReferenceError for a tensor that is not there, or whose type numpy cannot dequantise."""
        return self.rows(name, slice(None))

    def get(self, name: str) -> Array | None:
        """The tensor, or None."""
        return self[name] if name in self._tensors else None

    def rows(self, name: str, chosen: Sequence[int] | slice) -> Array:
        """Some rows of a tensor; a vector is one row, and comes back as a vector."""
        if name not in self._tensors:
            raise NoReferenceError(f"the file has no tensor {name}")
        tensor = self._tensors[name]
        stored = self._stored(tensor)[chosen]
        values = np.empty((len(stored), tensor.shape[0]), np.float32)
        step = max(1, _PIECE_VALUES // tensor.shape[0])
        for begin in range(0, len(stored), step):
            piece = stored[begin : begin + step]
            values[begin : begin + step] = _dequantised(piece, tensor).reshape(-1, tensor.shape[0])
        return values[0] if len(tensor.shape) == 1 else values

    def row_count(self, name: str) -> int:
        """How many rows a matrix has."""
        return math.prod(self._tensors[name].shape[1:])

    def _stored(self, tensor: TensorFacts) -> NDArray[np.uint8]:
        """The bytes of a tensor, a row for each of its rows."""
        block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
        row_bytes = tensor.shape[0] // block_values * block_bytes
        begin = self._begin + tensor.offset
        return self._bytes[begin : begin + row_bytes * self.row_count(tensor.name)].reshape(-1, row_bytes)


def _dequantised(rows: NDArray[np.uint8], tensor: TensorFacts) -> Array:
    kind = GGMLQuantizationType(tensor.type)
    data = np.ascontiguousarray(rows).reshape(1, -1)  # blocks do not mind where a row ends, and one row is faster
    if kind is GGMLQuantizationType.F32:
        return data.view(np.float32)
    if kind is GGMLQuantizationType.F16:
        return data.view(np.float16).astype(np.float32)
    try:
        return np.asarray(dequantize(data, kind), np.float32)
    except NotImplementedError:
        raise NoReferenceError(f"numpy cannot dequantise {kind.name}") from None
