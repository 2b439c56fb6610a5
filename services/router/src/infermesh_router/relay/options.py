"""How often and for how long the router tries to serve a request, as plain values."""

import math
from dataclasses import dataclass, field

from infermesh_router.relay.patience import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """Limits on retries, hedges and failovers, and how long each may wait."""

    attempts: int = 3
    """Attempts for a request that fails before its first token."""
    max_failovers: int = 5
    """How often a stream that fails after its first token may move to another endpoint; 0: it fails at once.

    Leaving an endpoint that drains, or that is not serving, is not counted."""
    failover_wait_s: float = 15.0
    """Longest wait for an endpoint that can continue a stream."""
    hedge_after_s: float = math.inf
    """How long to wait for a first token before a second endpoint is asked too; infinite: never."""
    hedge_when_slow: bool = False
    """Whether to ask a second endpoint already after the 95th percentile of recent waits, if that is sooner."""
    retry_ratio: float = 0.2
    """Retries and hedges that each request adds to the budget, on top of a few per second."""
    poison_s: float = 300.0
    """How long a request that engines died of is refused."""
    patience: Patience = field(default_factory=Patience)

    @property
    def hedges(self) -> bool:
        """Whether a slow request may be sent to a second endpoint."""
        return self.hedge_when_slow or math.isfinite(self.hedge_after_s)
