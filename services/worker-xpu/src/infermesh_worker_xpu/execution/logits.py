"""Keeps a batch's logits on the device and copies to the host only what the engine asks for."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infermesh_engine.runners.runner import CANDIDATES


class TorchLogits:
    """`runner.Logits` of [R, vocab] logits. Sums are computed on first use, because greedy rows need none."""

    def __init__(self, logits: Tensor, inverse_temperatures: NDArray[np.float32]) -> None:
        """`inverse_temperatures` is [R]; logits rows beyond R are padding and are dropped."""
        self._logits = logits[: len(inverse_temperatures)].float()
        self._inverse_temperatures = inverse_temperatures
        self._logsumexp: NDArray[np.float32] | None = None
        self._scaled_logsumexp: NDArray[np.float32] | None = None
        values, ids = self._logits.topk(min(CANDIDATES, logits.shape[1]), dim=1)
        self.top_ids, self.top_logits = _ties_by_id(_host(ids.to(torch.int32)), _host(values))

    top_ids: NDArray[np.int32]
    top_logits: NDArray[np.float32]

    @property
    def logsumexp(self) -> NDArray[np.float32]:
        if self._logsumexp is None:
            self._logsumexp = _host(self._logits.logsumexp(1))
        return self._logsumexp

    @property
    def scaled_logsumexp(self) -> NDArray[np.float32]:
        if self._scaled_logsumexp is None:
            if (self._inverse_temperatures == 1).all():
                return self.logsumexp
            scale = torch.tensor(self._inverse_temperatures, device=self._logits.device)
            scaled = self._logits * scale[:, None]
            self._scaled_logsumexp = _host(scaled.logsumexp(1))
        return self._scaled_logsumexp

    def row(self, index: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = _host(self._logits[index])
        return row


def _host(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _ties_by_id(ids: NDArray[np.int32], logits: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Orders equal candidates by token id, because topk returns them in any order."""
    if (logits[:, 1:] == logits[:, :-1]).any():
        order = np.lexsort((ids, -logits))
        ids, logits = np.take_along_axis(ids, order, 1), np.take_along_axis(logits, order, 1)
    return ids, logits
