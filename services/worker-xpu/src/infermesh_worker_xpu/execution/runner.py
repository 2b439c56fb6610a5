"""The engine's runner on torch: runs batches on the model and its KV cache."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from infermesh_engine.runners.runner import SCORED_ROWS, Batch, Logits, RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, ResourceExhausted
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE, AttentionKernels
from infermesh_worker_xpu.attention.layers import LayerSpec
from infermesh_worker_xpu.device import DTYPES, TorchDevice
from infermesh_worker_xpu.execution import kv_memory, warm_up
from infermesh_worker_xpu.execution.capture_sizes import CaptureSizes
from infermesh_worker_xpu.execution.forward import ForwardPass
from infermesh_worker_xpu.execution.graphs import GraphPool
from infermesh_worker_xpu.execution.logits import TorchLogits
from infermesh_worker_xpu.memory_errors import is_out_of_memory
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.sampling.device_sampler import DeviceSampler, TorchLaunch
from infermesh_worker_xpu.sharding.group import ALONE, Group

if TYPE_CHECKING:
    from infermesh_worker_xpu.vision.tower import VisionTower  # gpu.py runs without what images need

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunnerFacts:
    """What a runner reports about its model and has to be told."""

    attention: str
    """Name of the attention kernels."""
    weights_bytes: int
    extension: str = ""
    """Extension that torch runs with, such as "ipex 2.8"; empty if none."""
    compiled: bool = False
    """Whether torch.compile compiled the model's layers."""


class TorchRunner:
    """A transformers decoder model on one device.

    Raises FailedPrecondition if the model does not call our attention function, or if its KV cache does not fit.
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
        vision: "VisionTower | None" = None,
        group: Group = ALONE,
    ) -> None:
        """With `new_pool`, steps are captured as graphs; without it, kernels are launched one by one.

        `vision`: the model's vision model; None if it takes no images. `group`: the ranks that share the model. Each
        runs the same batches.
        """
        self._group = group
        self._model = model
        self._device = device
        self._vision = vision
        self._pass = ForwardPass(model, device, exact=options.numerics == "exact", vision=vision)
        self.prepare_image = vision.prepare if vision is not None else None
        """Decodes an image and scales its pixels; may be called in another thread. None if it takes no images."""
        self._sampler = DeviceSampler(device.handle, max_rows=options.max_sequences + SCORED_ROWS)
        self._samples = _samples(device, options)
        specs, vocab_size = self._loading(lambda: self._record(options))
        dtype = _kv_dtype(model.dtype, options, facts.attention)
        blocks = self._loading(lambda: self._bind(specs, kernels, dtype, options, new_pool))
        self._loading(lambda: self._warm_up([warm_up.shortest(blocks)]))
        if facts.attention == "triton" and not device.is_cpu:  # Triton's interpreter on the CPU compiles nothing
            self._loading(lambda: self._warm_up(warm_up.all_kernels(blocks, options.context_length)))
        if new_pool is not None:
            sizes = CaptureSizes.of(options)
            self._loading(lambda: self._pass.capture(new_pool, sizes, options.context_length))
        self.info = self._describe(facts, options, vocab_size, blocks, kv_memory.block_bytes(specs, dtype))

    def run(self, batch: Batch) -> Logits:
        return self._guarded(lambda: self._run(batch))

    def launch(self, batch: Batch) -> TorchLaunch:
        return TorchLaunch(self._guarded(lambda: self._queue(batch)), self._sampler, self._guarded)

    def _describe(
        self, facts: RunnerFacts, options: TorchOptions, vocab_size: int, blocks: int, block_bytes: int
    ) -> RunnerInfo:
        device, vision = self._device, self._vision
        return RunnerInfo(
            device_kind=device.kind,
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=_runtime(device, facts, self._model.dtype, options, graphs=bool(self._pass.graph_sizes)),
            vocab_size=vocab_size,
            context_length=options.context_length,
            block_size=BLOCK_SIZE,
            num_blocks=blocks,
            weights_bytes=facts.weights_bytes,
            kv_cache_bytes=blocks * block_bytes,
            kv_shrinks=device.is_cpu,
            checks_drafts=True,
            samples=self._samples,
            takes_images=vision is not None,
            whole_images=vision is not None and vision.sees_itself,
            image_rope=vision is not None and vision.has_rope,
        )

    def _guarded(self, work: Callable[[], T]) -> T:
        """Runs `work` of a step. Raises ResourceExhausted if the device has too little memory for it."""
        out_of_memory = ""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            out_of_memory = str(error).splitlines()[0]
        # Outside the except block, because its traceback keeps the failed pass's tensors alive.
        self._device.release_memory()
        _log.warning("out of memory for a batch", extra={"problem": out_of_memory})
        raise ResourceExhausted(f"{self.info.device_name} has too little memory for this batch: {out_of_memory}")

    def release_blocks(self, blocks: range) -> None:
        """Gives back the memory of consecutive blocks, on the CPU only. Raises OSError."""
        self._pass.release_blocks(blocks)

    def memory_free_bytes(self) -> int:
        return self._device.memory_bytes()[0]

    def close(self) -> None:
        del self._model, self._pass, self._vision
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
            if self._group.size > 1:
                self._group.spread(prepared.step.token_ids)  # only rank 0 samples
        return self._pass.logits(prepared)

    @torch.inference_mode()
    def _record(self, options: TorchOptions) -> tuple[list[LayerSpec], int]:
        tokens = 2 if self._device.is_cpu else options.max_batched_tokens
        rows = min(tokens, options.max_sequences)
        specs, vocab_size = attention.record_layers(self._model, tokens=tokens, rows=rows)
        if self._vision is not None and not self._device.is_cpu:
            self._vision.rehearse(options.context_length)
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
        """Allocates as many KV blocks as fit beside the graphs. Returns how many."""
        reserved_bytes = 0
        if new_pool is not None:
            self._pass.bind(specs, kernels, 0, dtype)
            self._warm_up([warm_up.shortest(0)])
            sizes = CaptureSizes.of(options)
            reserved_bytes = self._pass.measure_graphs(new_pool, sizes, options.context_length)
            self._device.release_memory()  # the dropped captures still hold it
            self._record(options)  # the allocator must again hold the memory of the largest pass
        ranks = self._group.size
        blocks = kv_memory.count_blocks(self._device, specs, dtype, options, reserved_bytes=reserved_bytes, ranks=ranks)
        blocks = self._group.least(blocks)
        self._pass.bind(specs, kernels, blocks, dtype)
        return blocks

    def _warm_up(self, batches: Iterable[Batch]) -> None:
        """Runs batches on the padding block, so that a model that the kernels refuse fails at load."""
        try:
            for batch in batches:
                self._run(batch)
        except ValueError as error:
            raise FailedPrecondition(
                f"The attention kernels do not support this model: {error}", reason="MODEL_NOT_SUPPORTED"
            ) from error

    def _loading(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise FailedPrecondition(
                f"{self._device.name} has too little memory for this model's KV cache and one batch: {error}. "
                "Lower INFERMESH_MAX_BATCHED_TOKENS or INFERMESH_KV_CACHE_BYTES, or use a smaller model.",
                reason="OUT_OF_MEMORY",
            ) from error


def _samples(device: TorchDevice, options: TorchOptions) -> bool:
    """Whether to sample on the device. On the CPU this gains nothing, because a launch there computes at once."""
    if options.sampling == "auto":
        return not device.is_cpu and options.numerics == "fast"
    return options.sampling == "device"


def _kv_dtype(weights: torch.dtype, options: TorchOptions, attention_name: str) -> torch.dtype:
    """Precision of the KV cache. Raises FailedPrecondition if the attention kernels do not read it."""
    dtype = DTYPES[options.kv_dtype] if options.kv_dtype != "auto" else weights
    if attention_name == "triton" and dtype != weights:
        raise FailedPrecondition(
            f"Triton's attention needs the KV cache in the weights' precision, not {options.kv_dtype}. Set "
            "INFERMESH_KV_DTYPE=auto or INFERMESH_ATTENTION=sdpa.",
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
