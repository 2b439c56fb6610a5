"""Runs the forward pass of a batch, as a captured graph where one fits.

It has two parts, `prepare` and `logits`, so that a caller can write tokens that are still on the device into a step
before it runs.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from infermesh_engine.runners.pages import release_pages
from infermesh_engine.runners.runner import Batch
from infermesh_engine.runners.widening import widened
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE, AttentionKernels
from infermesh_worker_xpu.attention.layers import CurrentStep, LayerSpec, PagedLayer
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.execution import kv_memory
from infermesh_worker_xpu.execution.graphs import DecodeGraphs, GraphPool
from infermesh_worker_xpu.steps.decode_buffers import DecodeBuffers
from infermesh_worker_xpu.steps.device_step import DeviceStep, upload_step
from infermesh_worker_xpu.steps.upload import Upload

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch whose copy to the device is queued."""

    step: DeviceStep
    """The model's inputs. Their tensors may be written to until `ForwardPass.logits` is called."""
    rows: int
    """Rows whose logits the batch asked for, at least 1; they come before any padding rows."""
    graph_size: int | None = None
    """Size of the graph that will run it; None if none fits."""


class ForwardPass:
    """One model and its KV cache. Call `bind` first. Work is queued on the device; no call waits for it."""

    def __init__(self, model: PreTrainedModel, device: TorchDevice, *, exact: bool) -> None:
        self._model = model
        self._device = device
        self._exact = exact
        self._step = CurrentStep()
        self._upload = Upload(device.handle)
        self._padding_block = 0
        self._caches: list[Tensor] = []
        self._graphs: DecodeGraphs | None = None

    @property
    def graph_sizes(self) -> list[int]:
        """Captured batch sizes."""
        return self._graphs.sizes if self._graphs is not None else []

    def bind(self, specs: Sequence[LayerSpec], kernels: AttentionKernels, blocks: int, dtype: torch.dtype) -> None:
        """Allocates a KV cache of `blocks` and one more for padding, and drops all graphs.

        Raises torch.OutOfMemoryError or MemoryError.
        """
        self._graphs = None
        self._padding_block = blocks
        self._caches.clear()
        layers = []
        for spec in specs:
            keys, values = (kv_memory.allocate(self._device, spec, blocks + 1, dtype) for _ in range(2))
            self._caches += (keys, values)
            layers.append(PagedLayer(keys, values, kernels, self._step))
        attention.assign_layers(self._model, layers.__getitem__)

    def release_blocks(self, blocks: range) -> None:
        """Gives back the memory of consecutive blocks of a KV cache on the CPU. Raises OSError."""
        for cache in self._caches:
            block_bytes = cache.stride(0) * cache.itemsize
            release_pages(cache.data_ptr() + blocks.start * block_bytes, len(blocks) * block_bytes)

    @torch.inference_mode()
    def capture(self, new_pool: GraphPool, sizes: Sequence[int], context_length: int) -> None:
        """Captures decodes of these batch sizes. If the model cannot be captured, none are, and the log says why."""
        graphs = self._new_graphs(new_pool, sizes, context_length)
        try:
            graphs.capture(sizes)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            _log.warning(
                "this model cannot be captured; it runs without graphs",
                extra={"reason": f"{type(error).__name__}: {reason}"},
            )
            return
        self._graphs = graphs

    @torch.inference_mode()
    def measure_graphs(self, new_pool: GraphPool, sizes: Sequence[int], context_length: int) -> int:
        """Bytes that `capture` will need; 0 if the model cannot be captured.

        Captures the two largest sizes and drops them. Every smaller size is taken to cost as much as the second.
        """
        graphs = self._new_graphs(new_pool, sizes, context_length)
        descending = sorted(sizes, reverse=True)
        free = [self._free_bytes()]
        for size in descending[:2]:
            try:
                graphs.capture([size])
            except RuntimeError:  # `capture` will log why
                return 0
            free.append(self._free_bytes())
        used = [max(0, before - after) for before, after in itertools.pairwise(free)]
        return used[0] + (len(sizes) - 1) * used[-1]

    @torch.inference_mode()
    def prepare(self, batch: Batch) -> PreparedBatch:
        """Queues the batch's copy to the device. The batch's arrays may be reused at once."""
        rows = max(1, len(batch.rows))
        if self._exact:
            batch = widened(batch, self._padding_block)
        size = self._graphs.bucket(batch) if self._graphs is not None else None
        if self._graphs is not None and size is not None:
            return PreparedBatch(self._graphs.stage(batch, size), rows, size)
        return PreparedBatch(upload_step(batch, block_size=BLOCK_SIZE, upload=self._upload), rows)

    @torch.inference_mode()
    def logits(self, prepared: PreparedBatch) -> Tensor:
        """Logits [rows, vocab]. If a graph ran, they lie in its memory, which the next graph overwrites."""
        if self._graphs is not None and prepared.graph_size is not None:
            return self._graphs.replay(prepared.graph_size)[: prepared.rows]
        return self._run(prepared.step)[: prepared.rows]

    def _run(self, now: DeviceStep) -> Tensor:
        self._step.value = now
        return attention.forward(self._model, now.token_ids, now.positions, now.rows)

    def _new_graphs(self, new_pool: GraphPool, sizes: Sequence[int], context_length: int) -> DecodeGraphs:
        inputs = DecodeBuffers(
            max_rows=max(sizes),
            max_blocks=-(-context_length // BLOCK_SIZE),
            padding_block=self._padding_block,
            block_size=BLOCK_SIZE,
            device=self._device.handle,
        )
        return DecodeGraphs(inputs, self._run, new_pool())

    def _free_bytes(self) -> int:
        self._device.release_memory()
        return self._device.memory_bytes()[0]
