"""Finds requests that engines die of, and refuses them for a while.

A request is counted by a digest of what it asks for. One that merely ran beside such a request usually gets further on
the next endpoint, or finishes; then it is no longer suspected.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.requests.call import GENERATE, Call
from infermesh_runtime.errors import FailedPrecondition, InfermeshError

ENGINE_CRASHED = "ENGINE_CRASHED"
POISONED = "POISONED_REQUEST"

_DEATHS = 2
"""Engines that may die of a request before it is refused."""
_MAX_DIGESTS = 10_000
_WHO = ("seed", "priority", "device", "session_id", "generated", "client_id")
"""Fields that say who asks, or how far an answer has come, but not what is asked for."""


@dataclass(slots=True)
class _Suspect:
    deaths: int
    until_s: float


class Poison:
    """The deaths of engines by the digest of the requests that ran on them. Costs nothing while no engine dies."""

    def __init__(self, *, refuse_s: float, metrics: RequestMetrics, clock: Callable[[], float]) -> None:
        """`refuse_s`: how long deaths are remembered, and so how long a request is refused."""
        self._refuse_s = refuse_s
        self._metrics = metrics
        self._clock = clock
        self._suspects: OrderedDict[bytes, _Suspect] = OrderedDict()

    def check(self, call: Call) -> None:
        """Raises FailedPrecondition (POISONED_REQUEST) for a request that engines have died of lately."""
        self._forget_old()
        if self._suspects:
            self._check(digest(call))

    def engine_died(self, call: Call) -> None:
        """Counts the death of an engine on which the call ran. Raises FailedPrecondition if it was one too many."""
        self._forget_old()
        key, until_s = digest(call), self._clock() + self._refuse_s
        deaths = self._suspects.pop(key, _Suspect(0, 0)).deaths + 1
        self._suspects[key] = _Suspect(deaths, until_s)
        if len(self._suspects) > _MAX_DIGESTS:
            self._suspects.popitem(last=False)
        self._check(key)

    def absolve(self, call: Call) -> None:
        """Forgets the deaths: the call ran on where it had stopped, so it was not what the engine died of."""
        self._suspects.pop(digest(call), None)

    def _check(self, key: bytes) -> None:
        suspect = self._suspects.get(key)
        if suspect is None or suspect.deaths < _DEATHS:
            return
        self._metrics.poisoned.inc()
        seconds = max(0, round(suspect.until_s - self._clock()))
        raise FailedPrecondition(
            f"The engines of {suspect.deaths} endpoints died while this request ran, so it is refused for the next"
            f" {seconds} s. Change the request.",
            reason=POISONED,
        )

    def _forget_old(self) -> None:
        now_s = self._clock()
        while self._suspects and next(iter(self._suspects.values())).until_s <= now_s:
            self._suspects.popitem(last=False)


class Suspicion:
    """One call's part in the deaths of engines."""

    def __init__(self, poison: Poison, call: Call) -> None:
        self._poison = poison
        self._call = call
        self._died_at: int | None = None

    def note(self, error: InfermeshError, *, tokens: int = 0) -> None:
        """Notes that an endpoint failed after `tokens` tokens of the whole answer.

        Raises FailedPrecondition (POISONED_REQUEST) if the request must not be sent to another one.
        """
        if error.reason != ENGINE_CRASHED:
            return
        self._absolve_beyond(tokens)
        self._died_at = tokens
        self._poison.engine_died(self._call)

    def finished(self, *, tokens: int) -> None:
        """Notes that the answer is complete."""
        self._absolve_beyond(tokens)

    def _absolve_beyond(self, tokens: int) -> None:
        if self._died_at is not None and tokens > self._died_at:
            self._poison.absolve(self._call)
            self._died_at = None


def digest(call: Call) -> bytes:
    """What a call asks for, in 16 bytes: the same for every client, seed and continuation."""
    body = call.body
    if call.method == GENERATE:
        request = pb.GenerateRequest.FromString(body)
        for name in _WHO:
            request.ClearField(name)
        body = request.SerializeToString(deterministic=True)
    return blake2b(body, digest_size=16, person=call.method[-16:].encode()).digest()
