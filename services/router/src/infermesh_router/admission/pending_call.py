"""A call that needs an endpoint and has none yet, from its arrival until it is granted one."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from infermesh_router.admission.fair_queue import Charge
from infermesh_router.policy.model_load import EXPECTED_OUTPUT_TOKENS
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.call import Call
from infermesh_router.requests.telling import Telling


@dataclass(slots=True, eq=False)
class PendingCall:
    """The call, what it was told so far, and what its place in a queue depends on (`fair_queue.Queueable`).

    It is one object for as long as the call needs endpoints, so that a call that comes back keeps its place.
    """

    call: Call
    arrival: int
    """Its number in the order of arrival at the router."""
    since_s: float
    deadline_s: float | None
    give_up_s: float | None = None
    """Set if it continues a stream that failed in its middle: until when it waits although nothing could serve it."""
    tried: frozenset[str] = frozenset()
    """Endpoints that it failed on, and must not be sent to now."""
    avoided_until_s: Mapping[str, float] = field(default_factory=dict)
    """Until when each of those must not be sent to; those that are not in here: never again."""
    lost_endpoint: bool = False
    """Whether an endpoint went away under it: it waits for one in the queue although nothing could serve it now."""
    charge: Charge | None = None
    """What its client was charged for the last grant out of a queue."""
    came_back: bool = False
    """Whether it had a grant already, which served it nothing: it has a place, however full the queue is."""
    waited: bool = False
    """Whether it waited, for room or for its model."""
    loading_s: float = 0.0
    """How long its model was loaded so far."""
    request_id: str = ""
    """The id of its request, for logs and receipts."""
    telling: Telling | None = None
    """How its client is told what it waits for; None: not at all."""

    @property
    def model(self) -> str:
        """The model that it needs."""
        return self.call.wanted.model

    def tried_at(self, now_s: float) -> frozenset[str]:
        """The endpoints that it must not be sent to at this time."""
        if not self.avoided_until_s:
            return self.tried
        return frozenset(a for a in self.tried if self.avoided_until_s.get(a, now_s + 1) > now_s)

    @property
    def resumed(self) -> bool:
        """Whether it continues a stream that failed in its middle: it goes before all that do not."""
        return self.give_up_s is not None

    @property
    def keeps_place(self) -> bool:
        """Whether it may wait however many do."""
        return self.resumed or self.came_back

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
        return (self.call.wanted.device, self.resumed, self.tried)

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
