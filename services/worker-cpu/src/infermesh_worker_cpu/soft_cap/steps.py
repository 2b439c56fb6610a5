"""Prepares what capped attention needs of each step, and writes the step's keys and values into the KV cache."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch
from infermesh_worker_cpu.soft_cap.attention import BLOCK_SIZE, STEP_INPUTS
from infermesh_worker_cpu.soft_cap.parts import Part, split

_NEW = "new_"


class CappedSteps:
    """The runner's side of capped attention: parts of a step, inputs before each, new keys and values after it."""

    def __init__(self, compiled: ov.CompiledModel, request: ov.InferRequest) -> None:
        self._request = request
        self._inputs = {port.get_any_name(): (index, port) for index, port in enumerate(compiled.inputs)}
        self._outputs = {name: index for index, port in enumerate(compiled.outputs) for name in port.get_names()}
        self._caches: list[tuple[NDArray[Any], int]] = []
        self._kv_heads = 0

    @classmethod
    def of(cls, compiled: ov.CompiledModel, request: ov.InferRequest) -> Self | None:
        """None for a graph whose attention has no soft cap."""
        names = {port.get_any_name() for port in compiled.inputs}
        return cls(compiled, request) if names.issuperset(STEP_INPUTS) else None

    def allocate_kv(self, num_blocks: int) -> list[ov.Tensor]:
        """Allocates and binds the KV cache. Its pages become resident when they are first written."""
        tensors = []
        for name, (index, port) in self._inputs.items():
            if _NEW + name in self._outputs:
                shape = [num_blocks, *(dim.get_length() for dim in list(port.partial_shape)[1:])]
                tensors.append(_zeroed(port.element_type, shape))
                self._request.set_input_tensor(index, tensors[-1])
                self._caches.append((tensors[-1].data, self._outputs[_NEW + name]))
                self._kv_heads = shape[1]
        return tensors

    def parts(self, batch: Batch, least: int) -> Sequence[Part]:
        """The parts to run one after the other. `least`: fewest new tokens of a sequence in one."""
        return split(batch, BLOCK_SIZE, least)

    def prepare(self, batch: Batch) -> None:
        """Sets the inputs of a step."""
        for name, array in zip(STEP_INPUTS, step_inputs(batch, self._kv_heads), strict=True):
            self._request.set_input_tensor(self._inputs[name][0], ov.Tensor(array))

    def store(self, batch: Batch) -> None:
        """Writes the keys and values of a step that has ended into the cache's blocks."""
        sequence, place = _places(batch)
        blocks = batch.blocks[batch.block_begins[sequence] + place // BLOCK_SIZE]
        slots = place % BLOCK_SIZE
        for cache, output in self._caches:
            cache[blocks, :, slots] = self._request.get_output_tensor(output).data


def kv_type(numerics: str, kv_cache_dtype: str) -> ov.Type:
    """The type of the KV cache of capped attention: f32 where the settings say so, otherwise bf16."""
    return ov.Type.f32 if numerics == "exact" or kv_cache_dtype == "f32" else ov.Type.bf16


def _zeroed(kind: ov.Type, shape: list[int]) -> ov.Tensor:
    """A tensor of zeros. A masked key counts 0 times what is in its place, which must not be NaN."""
    numbers = np.zeros(int(np.prod(shape)), np.float32 if kind == ov.Type.f32 else np.float16)
    return ov.Tensor(numbers, ov.Shape(shape), kind)


def step_inputs(batch: Batch, kv_heads: int) -> tuple[NDArray[Any], ...]:
    """What `attention.STEP_INPUTS` are called, in their order: blocks, slots, queries, places, outputs; all int32."""
    counts, tables = np.diff(batch.begins), np.diff(batch.block_begins)
    sequences, queries, blocks = len(counts), int(counts.max()), int(tables.max())
    heads = np.arange(kv_heads)
    inside = np.arange(blocks) < tables[:, None]
    padded = np.zeros((sequences, blocks), np.int64)
    padded[inside] = batch.blocks
    sequence, place = _places(batch)
    first = place - batch.past_lens[sequence]
    slots = ((sequence[:, None] * kv_heads + heads) * blocks) * BLOCK_SIZE + place[:, None]
    chosen, own = np.zeros((2, sequences, queries), np.int64)
    chosen[sequence, first], own[sequence, first] = np.arange(len(sequence)), place
    arrays = (
        padded[:, None, :] * kv_heads + heads[:, None],
        slots.reshape(-1),
        chosen,
        own,
        sequence * queries + first,
    )
    return tuple(np.ascontiguousarray(array, np.int32) for array in arrays)


def _places(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each token: its sequence in the batch, and its position in that sequence's blocks."""
    sequence = np.repeat(np.arange(len(batch.past_lens)), np.diff(batch.begins))
    return sequence, np.arange(len(sequence)) - batch.begins[sequence] + batch.past_lens[sequence]
