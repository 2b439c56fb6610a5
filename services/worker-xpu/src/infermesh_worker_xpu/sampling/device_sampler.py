"""Samples on the device and keeps the tokens there, for the next step's inputs and for the host.

On an accelerator, only `TorchLaunch.wait` waits for the device.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from infermesh_engine.runners.runner import CANDIDATES
from infermesh_engine.runners.sampling_runner import DrawnRows, SampledRows, SamplingBatch
from infermesh_worker_xpu.sampling import choosing, sampling_tensors, triton_draw
from infermesh_worker_xpu.steps.download import Download
from infermesh_worker_xpu.steps.upload import Upload

T = TypeVar("T")


class MemoryGuard(Protocol):
    """Runs work on a device and turns its out-of-memory errors into ResourceExhausted."""

    def __call__(self, work: Callable[[], T]) -> T: ...


class DeviceSampler:
    """Samples tokens and holds those of the last launch, which the next step takes as inputs."""

    def __init__(self, device: torch.device, *, max_rows: int) -> None:
        self._tokens = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._floats = sampling_tensors.sum_dtype(device)
        self._upload = Upload(device)
        self._download = Download(device)
        self._draw = triton_draw.choose_draw(device)

    def fill_in(self, token_ids: Tensor) -> None:
        """Replaces each -1 - row in a step's `token_ids` by the token that this row of the last launch got."""
        known = self._tokens[(-1 - token_ids).clamp_(min=0)]
        token_ids.copy_(torch.where(token_ids < 0, known, token_ids))

    @torch.inference_mode()
    def sample(self, logits: Tensor, batch: SamplingBatch) -> None:
        """Queues sampling from logits [R, vocab] and the copy of the tokens to the host."""
        sent = sampling_tensors.upload_batch(batch, logits.shape[1], self._upload, self._floats)
        chosen = choosing.choose_tokens(logits, sent, self._draw)
        torch.clamp(chosen.token_ids, min=0, out=self._tokens[: batch.rows])  # NO_TOKEN has no embedding
        self._download.begin(chosen.tensors)

    def rehearse(self, rows: int, vocab_size: int, dtype: torch.dtype) -> None:
        """Samples the largest batch, so that torch's allocator holds that memory before the KV cache takes the rest."""
        ones = np.ones(rows)
        draws = DrawnRows(
            rows=np.arange(rows),
            inverse_temperatures=ones,
            top_k=np.zeros(rows, np.int64),
            top_p=0.5 * ones,
            min_p=0 * ones,
            uniforms=0 * ones,
        )
        alternatives = np.full(rows, CANDIDATES, np.int32)
        logits = torch.zeros((rows, vocab_size), dtype=dtype, device=self._tokens.device)
        batch = SamplingBatch(rows=rows, draws=draws, alternatives=alternatives)
        self.sample(logits, batch)
        self.wait(batch)

    def wait(self, batch: SamplingBatch) -> SampledRows:
        """Waits for the tokens of the last sampled batch."""
        return choosing.to_tokens(self._download.wait(), batch)


class TorchLaunch:
    """`Launch` of a TorchRunner."""

    def __init__(self, logits: Tensor, sampler: DeviceSampler, guard: MemoryGuard) -> None:
        """`guard` wraps work that may run out of memory on the device."""
        self._logits: Tensor | None = logits
        self._sampler = sampler
        self._guard = guard
        self._batch: SamplingBatch | None = None

    def sample(self, sampling: SamplingBatch) -> None:
        logits, self._logits = self._logits, None
        if logits is None:
            raise ValueError("A launch can be sampled only once.")
        self._guard(lambda: self._sampler.sample(logits[: sampling.rows], sampling))
        self._batch = sampling

    def wait(self) -> SampledRows:
        batch = self._batch
        if batch is None:
            raise ValueError("This launch was not sampled: call sample before wait.")
        return self._guard(lambda: self._sampler.wait(batch))
