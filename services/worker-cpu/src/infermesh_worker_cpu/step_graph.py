"""One compiled graph and its inference request, whose inputs stay bound between steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch

from . import graph


class BoundInput:
    """One input of an inference request. Its tensor stays bound while its shape stays, as between decode steps."""

    def __init__(self, request: ov.InferRequest, index: int) -> None:
        self._request = request
        self._index = index
        self._data: NDArray[Any] = np.empty(0)
        self._shape: tuple[int, ...] | None = None

    def set(self, array: NDArray[Any]) -> None:
        """Copies the array into the bound tensor, or binds a new tensor when the shape differs."""
        if array.shape != self._shape:
            tensor = ov.Tensor(array.copy(), shared_memory=True)
            self._data, self._shape = tensor.data, array.shape
            self._request.set_input_tensor(self._index, tensor)
        else:
            self._data[...] = array


class StepGraph:
    """Runs batches through one compiled graph."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.request = compiled.create_infer_request()
        self.caches = {i: port for i, port in enumerate(compiled.inputs) if "_cache." in port.get_any_name()}
        """The inputs that are the KV cache, by index."""
        ports = {port.get_any_name(): index for index, port in enumerate(compiled.inputs)}
        self._inputs = [BoundInput(self.request, ports[name]) for name in graph.INPUTS]
        self._outputs = [_output_index(compiled, name) for name in graph.OUTPUTS]

    def allocate_kv(self, num_blocks: int) -> list[ov.Tensor]:
        """Allocates and binds the KV cache. Its pages become resident when they are first written."""
        tensors = []
        for port in self.caches.values():
            shape = [num_blocks, *(dim.get_length() for dim in list(port.partial_shape)[1:])]
            tensors.append(ov.Tensor(port.element_type, ov.Shape(shape)))
        self.bind_kv(tensors)
        return tensors

    def bind_kv(self, tensors: Sequence[ov.Tensor]) -> None:
        """Binds the KV cache of another graph whose caches are alike."""
        for index, tensor in zip(self.caches, tensors, strict=True):
            self.request.set_input_tensor(index, tensor)

    def shares_kv_with(self, other: "StepGraph") -> bool:
        """Whether both graphs read and write the same bytes in the KV cache."""
        return _forms(self) == _forms(other)

    def set_inputs(self, batch: Batch) -> None:
        arrays: tuple[NDArray[Any], ...] = (
            batch.token_ids,
            batch.positions,
            batch.past_lens,
            batch.begins,
            batch.blocks,
            batch.block_begins,
            np.array(batch.max_context_tokens, np.int32),
            batch.rows,
            batch.inverse_temperatures,
        )
        for bound, array in zip(self._inputs, arrays, strict=True):
            bound.set(array)

    def infer(self) -> None:
        """Runs what the inputs say. infer() of the request would copy every output, 6 MB of logits for 32 rows."""
        self.request.start_async()
        self.request.wait()

    def outputs(self, rows: int) -> tuple[NDArray[Any], ...]:
        """Views of the outputs in the order of graph.OUTPUTS; the next inference overwrites them."""
        return tuple(self.request.get_output_tensor(index).data[:rows] for index in self._outputs)


def _forms(one: StepGraph) -> list[tuple[str, str, str]]:
    return [
        (port.get_any_name(), port.element_type.to_string(), str(list(port.partial_shape)[1:]))
        for port in one.caches.values()
    ]


def _output_index(compiled: ov.CompiledModel, name: str) -> int:
    return next(index for index, port in enumerate(compiled.outputs) if name in port.get_names())
