"""Owns how hard the dispatcher tries, as plain values. Knows no settings file."""

import math
from dataclasses import dataclass, field

from infermesh_router.relay.patience import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchOptions:
    """Retries, hedges, failovers and how long each is waited for."""

    attempts: int = 3
    """Endpoints to try for a request that fails before its first token."""
    max_failovers: int = 5
    """Endpoints to try, over a stream's life, after failures in its middle; 0: such a stream fails.

    Leaving an endpoint that is drained, or that does not serve now, is not counted."""
    failover_wait_s: float = 15.0
    """Longest wait for an endpoint that could go on with a stream."""
    hedge_after_s: float = math.inf
    """Delay of the first token after which a request is sent to a second endpoint; infinite: never."""
    hedge_when_slow: bool = False
    """Whether it is sent after the delay that 95 % of the last requests did not exceed, if that is sooner."""
    retry_ratio: float = 0.2
    """Retries and hedges for each request, beside a few each second."""
    patience: Patience = field(default_factory=Patience)

    @property
    def hedges(self) -> bool:
        """Whether a request may be sent to a second endpoint for being slow."""
        return self.hedge_when_slow or math.isfinite(self.hedge_after_s)
