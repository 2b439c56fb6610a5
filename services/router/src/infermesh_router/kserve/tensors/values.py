"""A request to infer and its answer, as both of the protocol's forms, gRPC and REST, are read and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_router.kserve.tensors.datatypes import bad_tensor
from infermesh_router.kserve.tensors.wire import Bytes
from infermesh_runtime.errors import InvalidArgument

Value = str | int | float | bool
Parameters = Mapping[str, Value]
VERSION = "1"
"""The only version that a model has."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a registered region of shared memory."""

    region: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Input:
    """One input. Its elements are `data`, or in shared memory."""

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    data: Bytes = b""
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that a request asks for by name."""

    name: str
    window: Window | None = None
    """Where its elements go instead of the answer."""
    binary: bool | None = None
    """Whether REST returns its elements behind the JSON; None: as the request says for all outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferAsk:
    """A request to run a model once."""

    model: str
    version: str
    id: str
    parameters: Parameters
    inputs: tuple[Input, ...]
    outputs: tuple[WantedOutput, ...]
    raw: bool
    """Whether the answer's elements are raw: those of the request are, or it has none of its own."""
    ignored: tuple[str, ...] = ()
    """Fields of a body that have no effect."""

    def without_data(self) -> tuple["InferAsk", list[bytes]]:
        """The same without elements, and these: what another process returns."""
        return self.bare(), [bytes(each.data) for each in self.inputs]

    def bare(self) -> "InferAsk":
        """The same without elements."""
        return replace(self, inputs=tuple(replace(each, data=b"") for each in self.inputs))

    def with_data(self, data: Sequence[Bytes]) -> "InferAsk":
        """The same with these elements."""
        pairs = zip(self.inputs, data, strict=True)
        return replace(self, inputs=tuple(replace(each, data=elements) for each, elements in pairs))

    def check(self) -> None:
        """Raises InvalidArgument if there are no inputs, or several of one name."""
        if not self.inputs:
            raise InvalidArgument("The request has no inputs.", fields={"inputs": "at least one is required"})
        _check_names([each.name for each in self.inputs], "an input")
        _check_names([each.name for each in self.outputs], "a requested output")


@dataclass(frozen=True, slots=True)
class Output:
    """One output of an answer."""

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    data: Bytes
    window: Window | None = None
    """Where its elements were put; then `data` is empty."""


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The answer to a request."""

    model: str
    outputs: tuple[Output, ...]


def _check_names(names: Sequence[str], what: str) -> None:
    seen = set[str]()
    for name in names:
        if not name:
            raise InvalidArgument(f"{what.capitalize()} has no name.", fields={"name": "is required"})
        if name in seen:
            raise bad_tensor(name, f"is given twice as {what}")
        seen.add(name)
