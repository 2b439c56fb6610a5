"""Runs the forward pass of a batch, as a captured graph where one fits.

It has two parts, `prepare` and `logits`, so that a caller can write tokens that are still on the device into a step
before it runs.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from infermesh_worker_xpu.execution.capture_sizes import CaptureSizes
from infermesh_worker_xpu.execution.graphs import GraphMaker, GraphPool, StepGraphs
from infermesh_worker_xpu.steps.decode_buffers import DecodeBuffers
from infermesh_worker_xpu.steps.device_step import DeviceStep, is_flat, upload_step
from infermesh_worker_xpu.steps.mixed_buffers import MixedBuffers
from infermesh_worker_xpu.steps.upload import Upload
from infermesh_worker_xpu.vision.seen import see

if TYPE_CHECKING:
    from infermesh_worker_xpu.vision.tower import VisionTower  # gpu.py runs without what images need

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch whose copy to the device is queued."""

    step: DeviceStep
    """The model's inputs. Their tensors may be written to until `ForwardPass.logits` is called."""
    rows: int
    """Rows whose logits the batch asked for, at least 1; they come before any padding rows."""
    graphs: StepGraphs | None = None
    """The graphs of which one will run it; None if none fits."""
    graph_size: int = 0
    """Size of that graph."""


class ForwardPass:
    """One model and its KV cache. Call `bind` first. Work is queued on the device; no call waits for it."""

    def __init__(
        self, model: PreTrainedModel, device: TorchDevice, *, exact: bool, vision: "VisionTower | None" = None
    ) -> None:
        """`vision` looks at the images of batches, if the model takes any."""
        self._model = model
        self._vision = vision
        self._device = device
        self._exact = exact
        self._step = CurrentStep()
        self._upload = Upload(device.handle)
        self._padding_block = 0
        self._caches: list[Tensor] = []
        self._graphs: list[StepGraphs] = []
        self._mixed_logits: Tensor | None = None

    @property
    def graph_sizes(self) -> list[list[int]]:
        """Captured sizes of each kind of step that has any: decodes, then all other steps."""
        return [graphs.sizes for graphs in self._graphs]

    def bind(self, specs: Sequence[LayerSpec], kernels: AttentionKernels, blocks: int, dtype: torch.dtype) -> None:
        """Allocates a KV cache of `blocks` and one more for padding, and drops all graphs.

        Raises torch.OutOfMemoryError or MemoryError.
        """
        self._graphs = []
        self._mixed_logits = None
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
    def capture(self, new_pool: GraphPool, sizes: CaptureSizes, context_length: int) -> None:
        """Captures steps of these sizes. Kinds of steps that the model does not let be captured are not, and the log
        says why.
        """
        captured = []
        for kind, graphs, each in self._kinds(new_pool(), sizes, context_length):
            try:
                graphs.capture(each)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                _log.warning(
                    "this model cannot be captured; these steps run without graphs",
                    extra={"steps": kind, "reason": f"{type(error).__name__}: {reason}"},
                )
                continue
            captured.append(graphs)
        self._graphs = captured[::-1]  # a step of decodes takes their graphs if it can: they are made for it

    @torch.inference_mode()
    def measure_graphs(self, new_pool: GraphPool, sizes: CaptureSizes, context_length: int) -> int:
        """Bytes that `capture` will need; 0 for kinds of steps that cannot be captured.

        Captures the two largest sizes of each kind and drops them. Every smaller size is taken to cost as much as the
        second.
        """
        total = 0
        measured = []  # holds its memory until all kinds are measured, because they will share it
        for _, graphs, each in self._kinds(new_pool(), sizes, context_length):
            free = [self._free_bytes()]
            try:
                for size in sorted(each, reverse=True)[:2]:
                    graphs.capture([size])
                    free.append(self._free_bytes())
            except RuntimeError:  # `capture` will log why
                continue
            measured.append(graphs)
            used = [max(0, before - after) for before, after in itertools.pairwise(free)]
            total += used[0] + (len(each) - 1) * used[-1]
        self._mixed_logits = None
        return total

    @torch.inference_mode()
    def prepare(self, batch: Batch) -> PreparedBatch:
        """Queues the batch's copy to the device. The batch's arrays may be reused at once."""
        rows = max(1, len(batch.rows))
        seen = see(batch, self._vision, self._device.handle) if self._vision is not None and batch.images else None
        if self._exact:
            batch = widened(batch, self._padding_block)
        for graphs in self._graphs if seen is None and is_flat(batch) else ():
            if (size := graphs.bucket(batch)) is not None:
                return PreparedBatch(graphs.stage(batch, size), rows, graphs, size)
        return PreparedBatch(upload_step(batch, block_size=BLOCK_SIZE, upload=self._upload, seen=seen), rows)

    @torch.inference_mode()
    def logits(self, prepared: PreparedBatch) -> Tensor:
        """Logits [rows, vocab]. If a graph ran, they lie in its memory, which the next graph overwrites."""
        if prepared.graphs is not None:
            return prepared.graphs.replay(prepared.graph_size)[: prepared.rows]
        return self._run(prepared.step)[: prepared.rows]

    def _run(self, now: DeviceStep) -> Tensor:
        self._step.value = now
        return attention.forward(self._model, now.token_ids, now.positions, now.rows, now.seen)

    def _run_mixed(self, now: DeviceStep) -> Tensor:
        """Logits in memory that all mixed steps share, because each has as many rows as sequences may run."""
        logits = self._run(now)
        if self._mixed_logits is None or len(self._mixed_logits) < len(logits):
            self._mixed_logits = torch.empty_like(logits)
        return self._mixed_logits[: len(logits)].copy_(logits)

    def _kinds(
        self, make_graph: GraphMaker, sizes: CaptureSizes, context_length: int
    ) -> Iterator[tuple[str, StepGraphs, Sequence[int]]]:
        """Name, graphs and sizes of each kind of step, those first that need the most memory, which all share."""
        max_sequences = max(sizes.sequences)
        max_blocks = -(-context_length // BLOCK_SIZE)
        mixed = MixedBuffers(
            max_tokens=max(sizes.tokens),
            max_sequences=max_sequences,
            max_blocks=max_blocks,
            padding_block=self._padding_block,
            block_size=BLOCK_SIZE,
            device=self._device.handle,
        )
        yield "mixed", StepGraphs(mixed, self._run_mixed, make_graph), sizes.tokens
        decodes = DecodeBuffers(
            max_rows=max_sequences,
            max_blocks=max_blocks,
            padding_block=self._padding_block,
            block_size=BLOCK_SIZE,
            device=self._device.handle,
        )
        yield "decodes", StepGraphs(decodes, self._run, make_graph), sizes.sequences

    def _free_bytes(self) -> int:
        self._device.release_memory()
        return self._device.memory_bytes()[0]
