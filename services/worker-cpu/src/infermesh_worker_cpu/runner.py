"""Runs batches on the CPU with OpenVINO: the compiled graph, its KV cache, and one inference for each batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from infermesh_engine.runners.pages import release_pages
from infermesh_engine.runners.runner import Batch, Logits, RunnerInfo
from infermesh_engine.runners.widening import widened
from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition

from . import graph
from .soft_cap.parts import Part
from .soft_cap.steps import CappedSteps, kv_type

Numerics = Literal["fast", "exact"]
KvDtype = Literal["u8", "f16", "f32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVinoOptions:
    """How the graph is compiled, and how large its KV cache is."""

    numerics: Numerics = "fast"
    threads: int = 0
    """Number of threads; 0: one for each processor that this process may use."""
    kv_cache_dtype: KvDtype = "u8"
    """Applies to numerics "fast"; "exact" always uses f32."""
    kv_cache_bytes: int = 0
    """0: enough for max_sequences sequences of full context length, at most a quarter of the available memory."""
    max_sequences: int = 64
    context_length: int = 8192
    weights_bytes: int = 0
    properties: Mapping[str, Any] = field(default_factory=dict)
    """More properties of OpenVINO's CPU plugin, for experiments; they override the ones above."""


def compile_properties(options: OpenVinoOptions) -> dict[str, Any]:
    """Properties of the CPU plugin. docs/decisions/0002-exact-numerics.md explains `exact` and what it costs."""
    kv_cache_dtype = "f32" if options.numerics == "exact" else options.kv_cache_dtype
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.threads or machine.usable_processors(),
        "KV_CACHE_PRECISION": kv_cache_dtype,
    }
    if kv_cache_dtype == "f32":  # the attention kernel accepts an f32 cache only when it computes in f32
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if options.numerics == "exact":  # quantised activations would add more error than the file's weights have
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    return {**properties, **options.properties}


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


@dataclass(frozen=True)
class OpenVinoLogits:
    """Views of the inference request's output tensors; its next inference overwrites them."""

    all: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logits: NDArray[np.float32]
    scaled_logsumexp: NDArray[np.float32]
    inverse_temperatures: NDArray[np.float32]

    @cached_property
    def logsumexp(self) -> NDArray[np.float32]:
        """log Σ exp(logits). Computed only for log probabilities; equals the scaled one where the temperature is 1."""
        sums = self.scaled_logsumexp.copy()
        for index in np.flatnonzero(self.inverse_temperatures != 1.0):
            largest = self.top_logits[index, 0]
            sums[index] = largest + np.log(np.exp(self.all[index] - largest).sum())
        return sums

    def row(self, index: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.all[index]
        return row


class OpenVinoRunner:
    """A decoder on the CPU. Raises FailedPrecondition when its graph cannot use paged attention."""

    def __init__(self, xml: Path, options: OpenVinoOptions) -> None:
        core = ov.Core()
        try:
            model = graph.read(core, xml, capped_kv=kv_type(options.numerics, options.kv_cache_dtype))
        except graph.NotPageableError as error:
            raise FailedPrecondition(str(error), reason="MODEL_NOT_SUPPORTED") from error
        compiled = core.compile_model(model, "CPU", compile_properties(options))
        del model
        self._request = compiled.create_infer_request()
        ports = {port.get_any_name(): index for index, port in enumerate(compiled.inputs)}
        self._inputs = [BoundInput(self._request, ports[name]) for name in graph.INPUTS]
        self._outputs = [_output_index(compiled, name) for name in graph.OUTPUTS]
        self._exact = options.numerics == "exact"
        self.info = _runner_info(core, compiled, options)
        self._capped = CappedSteps.of(compiled, self._request)
        blocks = self.info.num_blocks + 1
        self._kv = self._capped.allocate_kv(blocks) if self._capped else self._allocate_kv(compiled, blocks)

    def run(self, batch: Batch) -> Logits:
        parts = self._capped.parts(batch, self.info.min_run_tokens) if self._capped else ()
        return self._joined(batch, parts) if len(parts) > 1 else self._infer(batch)

    def _joined(self, batch: Batch, parts: Sequence[Part]) -> OpenVinoLogits:
        """Runs the parts one after the other. Their logits are copied, since each inference overwrites them."""
        joined: tuple[NDArray[Any], ...] = ()
        for part in parts:
            logits = self._infer(part.batch)
            columns = (logits.all, logits.top_ids, logits.top_logits, logits.scaled_logsumexp)
            joined = joined or tuple(np.empty((len(batch.rows), *column.shape[1:]), column.dtype) for column in columns)
            for whole, column in zip(joined, columns, strict=True):
                whole[part.rows] = column
        every, ids, top, sums = joined
        return OpenVinoLogits(every, ids, top, sums, batch.inverse_temperatures)

    def _infer(self, batch: Batch) -> OpenVinoLogits:
        rows = len(batch.rows)
        run = widened(batch, self.info.num_blocks) if self._exact else batch
        self._set_inputs(run)
        if self._capped is not None:
            self._capped.prepare(run)
        # infer() would copy every output, 6 MB of logits for 32 rows.
        self._request.start_async()
        self._request.wait()
        if self._capped is not None:
            self._capped.store(run)
        every, ids, top, sums = (self._request.get_output_tensor(index).data[:rows] for index in self._outputs)
        if not np.isfinite(sums).all():  # the plugin's TopK may miss a NaN, but a sum does not
            top = np.where(np.isfinite(sums)[:, None], top, np.float32(np.nan))
        return _with_ties_by_id(OpenVinoLogits(every, ids, top, sums, batch.inverse_temperatures))

    def release_blocks(self, blocks: range) -> None:
        """Gives back the memory of consecutive blocks. They stay usable, with unknown content. Raises OSError."""
        for tensor in self._kv:
            block_bytes = tensor.byte_size // tensor.shape[0]
            release_pages(tensor.data.ctypes.data + blocks.start * block_bytes, len(blocks) * block_bytes)

    def memory_free_bytes(self) -> int:
        return machine.memory_available_bytes()

    def close(self) -> None:
        del self._request, self._inputs, self._kv, self._capped

    def _set_inputs(self, batch: Batch) -> None:
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

    def _allocate_kv(self, compiled: ov.CompiledModel, num_blocks: int) -> list[ov.Tensor]:
        """Allocates and binds the KV cache. Its pages become resident when they are first written."""
        tensors = []
        for index, port in enumerate(compiled.inputs):
            if "_cache." in port.get_any_name():
                shape = [num_blocks, *(dim.get_length() for dim in list(port.partial_shape)[1:])]
                tensors.append(ov.Tensor(port.element_type, ov.Shape(shape)))
                self._request.set_input_tensor(index, tensors[-1])
        return tensors


def _output_index(compiled: ov.CompiledModel, name: str) -> int:
    return next(index for index, port in enumerate(compiled.outputs) if name in port.get_names())


def _runner_info(core: ov.Core, compiled: ov.CompiledModel, options: OpenVinoOptions) -> RunnerInfo:
    caches = [port for port in compiled.inputs if "_cache." in port.get_any_name()]
    values = next(port for port in caches if port.get_any_name().startswith("value_cache."))
    block_size = list(values.partial_shape)[-2].get_length()
    block_bytes = sum(_block_bytes(port) for port in caches)
    logits = next(port for port in compiled.outputs if "logits" in port.get_names())
    num_blocks = _num_blocks(options, block_size, block_bytes)
    return RunnerInfo(
        device_kind="cpu",
        device_name=core.get_property("CPU", "FULL_DEVICE_NAME"),
        memory_total_bytes=machine.memory_total_bytes(),
        runtime=f"openvino {ov.get_version().split('-')[0]}",
        vocab_size=logits.partial_shape[-1].get_length(),
        context_length=options.context_length,
        block_size=block_size,
        num_blocks=num_blocks,
        weights_bytes=options.weights_bytes,
        kv_cache_bytes=num_blocks * block_bytes,
        kv_shrinks=True,
        checks_drafts=True,
        min_run_tokens=2 if options.numerics == "exact" else 1,
    )


def _block_bytes(port: ov.ConstOutput) -> int:
    elements = 1
    for dim in list(port.partial_shape)[1:]:
        elements *= dim.get_length()
    return elements * int(port.element_type.size)


def _num_blocks(options: OpenVinoOptions, block_size: int, block_bytes: int) -> int:
    if options.kv_cache_bytes:
        total_bytes = machine.memory_total_bytes()
        if options.kv_cache_bytes > total_bytes:
            raise FailedPrecondition(
                f"a KV cache of {options.kv_cache_bytes} bytes does not fit in this machine's memory of "
                f"{total_bytes} bytes. Lower INFERMESH_KV_CACHE_BYTES",
                reason="KV_CACHE_TOO_LARGE",
            )
        blocks = options.kv_cache_bytes // block_bytes
        if blocks < 1:
            raise FailedPrecondition(
                f"a KV cache of {options.kv_cache_bytes} bytes is too small: one block of {block_size} tokens needs "
                f"{block_bytes} bytes. Raise INFERMESH_KV_CACHE_BYTES",
                reason="KV_CACHE_TOO_SMALL",
            )
        return blocks
    wanted = options.max_sequences * -(-options.context_length // block_size)
    return max(1, min(wanted, machine.memory_available_bytes() // 4 // block_bytes))


def _with_ties_by_id(logits: OpenVinoLogits) -> OpenVinoLogits:
    """Orders equal candidates by token id, which the plugin's TopK does not do (its stable form is slow)."""
    top = logits.top_logits
    if not (top[:, 1:] == top[:, :-1]).any():
        return logits
    order = np.lexsort((logits.top_ids, -top))
    return replace(
        logits,
        top_ids=np.take_along_axis(logits.top_ids, order, 1),
        top_logits=np.take_along_axis(top, order, 1),
    )
