"""Reads what a reference needs of a GGUF file: hyperparameters, and tensors dequantised one at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from infermesh_client.verification.comparison import NoReferenceError

Array = NDArray[np.float32]


class GgufWeights:
    """The tensors of a file as float32, in numpy's order of dimensions; nothing is kept between calls."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.architecture = str(self._fields["general.architecture"].contents())

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keys of the architecture's section, without its prefix."""
        prefix = f"{self.architecture}."
        fields = self._fields.items()
        return {name.removeprefix(prefix): field.contents() for name, field in fields if name.startswith(prefix)}

    @property
    def names(self) -> frozenset[str]:
        """Names of all tensors."""
        return frozenset(self._tensors)

    def __getitem__(self, name: str) -> Array:
        """Raises NoReferenceError for a tensor that is not there, or whose type numpy cannot dequantise."""
        if name not in self._tensors:
            raise NoReferenceError(f"the file has no tensor {name}")
        return self._values(name, slice(None))

    def get(self, name: str) -> Array | None:
        """The tensor, or None."""
        return self[name] if name in self._tensors else None

    def rows(self, name: str, chosen: Sequence[int] | slice) -> Array:
        """Some rows of a matrix."""
        return self._values(name, chosen)

    def row_count(self, name: str) -> int:
        """How many rows a matrix has."""
        return int(self._tensors[name].data.shape[0])

    def _values(self, name: str, chosen: Sequence[int] | slice) -> Array:
        tensor = self._tensors[name]
        try:
            return np.asarray(dequantize(tensor.data[chosen], tensor.tensor_type), np.float32)
        except NotImplementedError:
            raise NoReferenceError(f"numpy cannot dequantise {tensor.tensor_type.name}") from None
