"""A call that needs an endpoint and has none yet, from its arrival until it is granted one."""

from collections.abc import Hashable
from dataclasses import dataclass

from infermesh_router.policy.snapshot import EXPECTED_OUTPUT_TOKENS, Wanted
from infermesh_router.requests.call import Call


@dataclass(slots=True, eq=False)
class PendingCall:
    """The call, what it was told so far, and what its place in a queue depends on (`fair_queue.Queueable`)."""

    call: Call
    tried: frozenset[str]
    """Endpoints that it failed on."""
    resumed: bool
    """Whether it continues a stream that failed in its middle."""
    since_s: float
    deadline_s: float | None
    waited: bool = False
    """Whether it waited, for room or for its model."""
    loading_s: float = 0.0
    """How long its model was loaded so far."""

    @property
    def model(self) -> str:
        """The model that it needs."""
        return self.call.wanted.model

    @property
    def client(self) -> str:
        """Whose turns it uses up."""
        return self.call.wanted.client

    @property
    def member(self) -> str:
        """Whom the client sends it for."""
        return self.call.wanted.member

    @property
    def priority(self) -> int:
        """Larger is served first."""
        return self.call.wanted.priority

    @property
    def lane(self) -> Hashable:
        """What decides, besides the model, which endpoints can serve it."""
        return (self.call.wanted.device, self.tried)

    @property
    def cost_tokens(self) -> float:
        """What serving it uses up of its client's share."""
        return cost_tokens(self.call.wanted)

    def expires_s(self, max_wait_s: float | None) -> float | None:
        """When it may wait no longer: at its deadline, or after `max_wait_s` if that is sooner. None: never."""
        longest_s = None if max_wait_s is None else self.since_s + max_wait_s
        return min((time_s for time_s in (self.deadline_s, longest_s) if time_s is not None), default=None)


def cost_tokens(wanted: Wanted) -> float:
    """The tokens of a request's prompt and of the output that is expected; at least 1."""
    output = min(wanted.max_tokens or EXPECTED_OUTPUT_TOKENS, EXPECTED_OUTPUT_TOKENS)
    return float(max(1, wanted.prompt_tokens + output * wanted.sequences))
