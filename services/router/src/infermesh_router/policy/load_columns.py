"""The loads of all endpoints as columns of numbers: those of one model, or the endpoints' totals."""

import numpy as np
from numpy.typing import NDArray

from infermesh_router.policy.model_load import (
    DEFAULT_DECODE_TOKENS_PER_S,
    DEFAULT_PREFILL_TOKENS_PER_S,
    EXPECTED_OUTPUT_TOKENS,
)
from infermesh_router.policy.snapshot import EndpointSnapshot

Floats = NDArray[np.float64]


class LoadColumns:
    """One value per endpoint in each column; callers must not write to them. `write` takes over a snapshot's values.

    A row whose endpoint does not serve the model means nothing. If an endpoint reports no loads of its models, its
    totals stand in for them.
    """

    def __init__(self, model: str, rows: int) -> None:
        """`model`: whose loads these are; "" stands for the totals of the endpoints."""
        self.model = model
        self._values = np.zeros((9, rows))
        self.waiting_tokens, self.sequences, self.prefill_tokens_per_s, self.decode_tokens_per_s = self._values[:4]
        self.kv_cache_usage, self.room, self.drain_s, self.token_s, self.sequence_s = self._values[4:]
        """`drain_s`: seconds to drain; `token_s`, `sequence_s`: what one more prompt token and sequence add to it."""
        self._unmeasured: set[int] = set()

    @property
    def is_measured(self) -> bool:
        """Whether every endpoint that was written has measured both its rates."""
        return not self._unmeasured

    def write(self, row: int, snapshot: EndpointSnapshot) -> None:
        """Takes over the values of the endpoint in that row."""
        load = snapshot.load_of(self.model)
        prefill, decode, sequences = load.prefill_tokens_per_s, load.decode_tokens_per_s, load.sequences
        drain_s, slower = snapshot.drain_of(self.model)
        self._values[:, row] = (
            load.waiting_tokens,
            sequences,
            prefill,
            decode,
            load.kv_cache_usage,
            load.room,
            drain_s,
            slower / (prefill or DEFAULT_PREFILL_TOKENS_PER_S),
            slower * EXPECTED_OUTPUT_TOKENS / (decode or DEFAULT_DECODE_TOKENS_PER_S),
        )
        if prefill and decode:
            self._unmeasured.discard(row)
        else:
            self._unmeasured.add(row)

    def forget(self, row: int) -> None:
        """Notes that the endpoint in that row no longer serves the model: its rates are no longer missed."""
        self._unmeasured.discard(row)
