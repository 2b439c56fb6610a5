"""Owns what of a launch stays on the device between steps: its tokens, and their way to the next step and to the host.

Knows no model. On an accelerator only `TorchLaunch.wait` waits.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from infermesh_engine.runners.launch import Draws, SamplingBatch, Tokens
from infermesh_engine.runners.runner import CANDIDATES
from infermesh_worker_xpu.sampling import choosing, sampling_tensors, triton_draw
from infermesh_worker_xpu.steps.download import Download
from infermesh_worker_xpu.steps.upload import Upload

T = TypeVar("T")


class MemoryGuard(Protocol):
    """Does work on a device; its lack of memory becomes ResourceExhausted."""

    def __call__(self, work: Callable[[], T]) -> T: ...


class DeviceSampler:
    """The tokens that the last launch's rows got, where the next step's inputs find them."""

    def __init__(self, device: torch.device, *, max_rows: int) -> None:
        self._tokens = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._floats = sampling_tensors.sum_dtype(device)
        self._upload = Upload(device)
        self._download = Download(device)
        self._draw = triton_draw.choose_draw(device)

    def fill_in(self, token_ids: Tensor) -> None:
        """Writes the tokens that `token_ids`, a step's on the device, names as -1 - row in their places."""
        known = self._tokens[(-1 - token_ids).clamp_(min=0)]
        token_ids.copy_(torch.where(token_ids < 0, known, token_ids))

    @torch.inference_mode()
    def sample(self, logits: Tensor, batch: SamplingBatch) -> None:
        """Queues the choice of tokens from logits [R, vocab] and their copy to the host."""
        sent = sampling_tensors.upload_batch(batch, logits.shape[1], self._upload, self._floats)
        chosen = choosing.choose_tokens(logits, sent, self._draw)
        self._tokens[: batch.rows].copy_(chosen.token_ids)
        self._download.begin(chosen.tensors)

    def rehearse(self, rows: int, vocab_size: int, dtype: torch.dtype) -> None:
        """Samples what takes the most memory, so that the allocator has it before the KV cache takes the rest."""
        ones = np.ones(rows)
        draws = Draws(
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

    def wait(self, batch: SamplingBatch) -> Tokens:
        """What the last sampled batch got."""
        return choosing.to_tokens(self._download.wait(), batch)


class TorchLaunch:
    """`launch.Launched` of a TorchRunner."""

    def __init__(self, logits: Tensor, sampler: DeviceSampler, guard: MemoryGuard) -> None:
        """`guard` runs what may find no memory on the device."""
        self._logits: Tensor | None = logits
        self._sampler = sampler
        self._guard = guard
        self._batch: SamplingBatch | None = None

    def sample(self, sampling: SamplingBatch) -> None:
        logits, self._logits = self._logits, None
        if logits is None:
            raise ValueError("a launch is sampled once")
        self._guard(lambda: self._sampler.sample(logits[: sampling.rows], sampling))
        self._batch = sampling

    def wait(self) -> Tokens:
        batch = self._batch
        if batch is None:
            raise ValueError("a launch that was not sampled has no tokens")
        return self._guard(lambda: self._sampler.wait(batch))
