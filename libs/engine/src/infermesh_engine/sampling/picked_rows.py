"""Shows some rows of a batch's logits as if they were all."""

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Logits


class PickedRows:
    """`Logits` of the rows at `index` of another."""

    def __init__(self, logits: Logits, index: NDArray[np.int64]) -> None:
        self._logits = logits
        self._index = index

    @property
    def top_ids(self) -> NDArray[np.int32]:
        return self._logits.top_ids[self._index]

    @property
    def top_logits(self) -> NDArray[np.float32]:
        return self._logits.top_logits[self._index]

    @property
    def logsumexp(self) -> NDArray[np.float32]:
        return self._logits.logsumexp[self._index]

    @property
    def scaled_logsumexp(self) -> NDArray[np.float32]:
        return self._logits.scaled_logsumexp[self._index]

    def row(self, index: int) -> NDArray[np.float32]:
        return self._logits.row(int(self._index[index]))
