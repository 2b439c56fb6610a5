"""Owns torch's side of the runner seam: the model, its KV cache, and one forward pass a batch.

Knows no request and no sampling.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from infermesh_engine.runners.runner import Batch, Logits, RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, ResourceExhausted
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE, AttentionKernels
from infermesh_worker_xpu.attention.layers import LayerSpec
from infermesh_worker_xpu.device import DTYPES, TorchDevice
from infermesh_worker_xpu.execution import kv_memory, warm_up
from infermesh_worker_xpu.execution.forward import ForwardPass
from infermesh_worker_xpu.execution.graphs import GraphPool, bucket_sizes
from infermesh_worker_xpu.execution.logits import TorchLogits
from infermesh_worker_xpu.memory_errors import is_out_of_memory
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.sampling.device_sampler import DeviceSampler, TorchLaunch

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunnerFacts:
    """What a runner tells of itself and cannot know."""

    attention: str
    """Name of its kernels."""
    weights_bytes: int
    extension: str = ""
    """What computes beside torch, as "ipex 2.8"; empty when torch does alone."""
    compiled: bool = False
    """Whether torch.compile has made the model's layers."""


class TorchRunner:
    """A decoder of transformers on one device.

    Raises FailedPrecondition when the model's attention is none of ours, or its KV cache does not fit.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        device: TorchDevice,
        kernels: AttentionKernels,
        options: TorchOptions,
        facts: RunnerFacts,
        *,
        new_pool: GraphPool | None = None,
    ) -> None:
        """`new_pool` captures steps of decodes; without it every step is launched kernel by kernel."""
        self._model = model
        self._device = device
        self._pass = ForwardPass(model, device, exact=options.numerics == "exact")
        self._sampler = DeviceSampler(device.handle, max_rows=options.max_sequences)
        self._samples = _samples(device, options)
        specs, vocab_size = self._loading(lambda: self._record(options))
        dtype = _kv_dtype(model.dtype, options, facts.attention)
        blocks = self._loading(lambda: self._bind(specs, kernels, dtype, options, new_pool))
        self._loading(lambda: self._warm_up([warm_up.shortest(blocks)]))
        if facts.attention == "triton" and not device.is_cpu:  # the interpreter compiles nothing
            self._loading(lambda: self._warm_up(warm_up.all_kernels(blocks, options.context_length)))
        if new_pool is not None:
            sizes = bucket_sizes(options.max_sequences)
            self._loading(lambda: self._pass.capture(new_pool, sizes, options.context_length))
        self.info = RunnerInfo(
            device_kind=device.kind,
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=_runtime(device, facts, model.dtype, options, graphs=bool(self._pass.graph_sizes)),
            vocab_size=vocab_size,
            context_length=options.context_length,
            block_size=BLOCK_SIZE,
            num_blocks=blocks,
            weights_bytes=facts.weights_bytes,
            kv_cache_bytes=blocks * kv_memory.block_bytes(specs, dtype),
            samples=self._samples,
        )

    def run(self, batch: Batch) -> Logits:
        return self._guarded(lambda: self._run(batch))

    def launch(self, batch: Batch) -> TorchLaunch:
        return TorchLaunch(self._guarded(lambda: self._queue(batch)), self._sampler, self._guarded)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Does a step's work; raises ResourceExhausted where the device has no memory for it."""
        out_of_memory = ""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            out_of_memory = str(error).splitlines()[0]
        # After the except block, which keeps the failed pass' tensors alive through its traceback.
        self._device.release_memory()
        _log.warning("a batch did not fit", extra={"problem": out_of_memory})
        raise ResourceExhausted(f"{self.info.device_name} has no memory for this batch: {out_of_memory}")

    def memory_free_bytes(self) -> int:
        return self._device.memory_bytes()[0]

    def close(self) -> None:
        del self._model, self._pass
        self._device.release_memory()

    @torch.inference_mode()
    def _run(self, batch: Batch) -> TorchLogits:
        logits = self._pass.logits(self._pass.prepare(batch))
        return TorchLogits(logits, batch.inverse_temperatures)

    @torch.inference_mode()
    def _queue(self, batch: Batch) -> Tensor:
        prepared = self._pass.prepare(batch)
        if (batch.token_ids < 0).any():
            self._sampler.fill_in(prepared.step.token_ids)
        return self._pass.logits(prepared)

    @torch.inference_mode()
    def _record(self, options: TorchOptions) -> tuple[list[LayerSpec], int]:
        tokens = 2 if self._device.is_cpu else options.max_batched_tokens
        rows = min(tokens, options.max_sequences)
        specs, vocab_size = attention.record_layers(self._model, tokens=tokens, rows=rows)
        if self._samples:
            self._sampler.rehearse(rows, vocab_size, self._model.dtype)
        return specs, vocab_size

    def _bind(
        self,
        specs: list[LayerSpec],
        kernels: AttentionKernels,
        dtype: torch.dtype,
        options: TorchOptions,
        new_pool: GraphPool | None,
    ) -> int:
        """Gives the model as many KV blocks as fit beside the graphs; returns how many."""
        reserved_bytes = 0
        if new_pool is not None:
            self._pass.bind(specs, kernels, 0, dtype)
            self._warm_up([warm_up.shortest(0)])
            sizes = bucket_sizes(options.max_sequences)
            reserved_bytes = self._pass.measure_graphs(new_pool, sizes, options.context_length)
            self._device.release_memory()  # which the captures that are gone still hold
            self._record(options)  # of the largest pass the allocator kept no memory
        blocks = kv_memory.count_blocks(self._device, specs, dtype, options, reserved_bytes=reserved_bytes)
        self._pass.bind(specs, kernels, blocks, dtype)
        return blocks

    def _warm_up(self, batches: Iterable[Batch]) -> None:
        """Runs batches on padding_block's block, so that what the kernels refuse is refused at load."""
        try:
            for batch in batches:
                self._run(batch)
        except ValueError as error:
            raise FailedPrecondition(
                f"the attention kernels cannot serve this model: {error}", reason="MODEL_NOT_SUPPORTED"
            ) from error

    def _loading(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise FailedPrecondition(
                f"{self._device.name} has no memory for this model's KV cache and a batch of it: {error}",
                reason="OUT_OF_MEMORY",
            ) from error


def _samples(device: TorchDevice, options: TorchOptions) -> bool:
    """Whether tokens are chosen on the device. On processors that overlaps nothing: they compute during the launch."""
    if options.sampling == "auto":
        return not device.is_cpu and options.numerics == "fast"
    return options.sampling == "device"


def _kv_dtype(weights: torch.dtype, options: TorchOptions, attention_name: str) -> torch.dtype:
    """Raises FailedPrecondition for a precision that the kernels do not read."""
    dtype = DTYPES[options.kv_dtype] if options.kv_dtype != "auto" else weights
    if attention_name == "triton" and dtype != weights:
        raise FailedPrecondition(
            f"Triton's attention reads a KV cache of the weights' precision, not {options.kv_dtype}",
            reason="DTYPE_NOT_SUPPORTED",
        )
    return dtype


def _runtime(
    device: TorchDevice, facts: RunnerFacts, dtype: torch.dtype, options: TorchOptions, *, graphs: bool
) -> str:
    precision = str(dtype).removeprefix("torch.")
    if options.quantisation != "none":
        precision += f", {options.quantisation} weights"
    warning = f", {device.warning}" if device.warning else ""
    extension = f", {facts.extension}" if facts.extension else ""
    captured = ", graphs" if graphs else ""
    compiled = ", compiled" if facts.compiled else ""
    version = torch.__version__.partition("+")[0]
    return f"torch {version}{extension} ({precision}, {facts.attention}{captured}{compiled}{warning})"
