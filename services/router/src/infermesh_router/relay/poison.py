"""Finds requests that engines die of or hang on, and refuses them for a while.

A request is counted by a digest of what it asks for. One that merely ran beside such a request usually gets further on
the next endpoint, or finishes; then it is no longer suspected. An engine that only falls silent counts as hung if the
same request silences a second one, nothing else came from either, and their fronts still answer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.faults import is_hang
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.requests.audio_call import sound_mark, without_sound
from infermesh_router.requests.call import GENERATE, SPEAK, TRANSCRIBE, Call
from infermesh_runtime.errors import FailedPrecondition, InfermeshError

ENGINE_CRASHED = "ENGINE_CRASHED"
POISONED = "POISONED_REQUEST"

_DEATHS = 2
"""Engines that may die of a request before it is refused."""
_ONE_DEATH_S = 1.0
"""Calls that an endpoint cuts off within this time of each other were cut off by one death of its engine."""
_MAX_DIGESTS = 10_000
_WHO = frozenset(
    {"seed", "priority", "device", "session_id", "generated", "client_id", "delivered_segments", "delivered_pieces"}
)
"""Fields that say who asks, or how far an answer has come, but not what is asked for."""


@dataclass(slots=True)
class _Suspect:
    deaths: int = 0
    until_s: float = 0.0
    died_s: dict[str, float] = field(default_factory=dict)
    """When engines died, by endpoint; a few entries at most."""


class Poison:
    """The deaths of engines by the digest of the requests that ran on them. Costs nothing while no engine dies."""

    def __init__(
        self,
        *,
        refuse_s: float,
        metrics: RequestMetrics,
        clock: Callable[[], float],
        front_answers: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`refuse_s`: how long deaths are remembered, and so how long a request is refused.

        `front_answers` tells whether the worker at an address still answers.
        """
        self._refuse_s = refuse_s
        self._metrics = metrics
        self._clock = clock
        self.front_answers = front_answers
        self._suspects: OrderedDict[bytes, _Suspect] = OrderedDict()

    def check(self, call: Call) -> None:
        """Raises FailedPrecondition (POISONED_REQUEST) for a request that engines have died of lately."""
        self._forget_old()
        if self._suspects:
            self._check(digest(call))

    def engine_died(self, call: Call, address: str) -> None:
        """Counts the death of an endpoint's engine on which the call ran: once, however many such calls it ran.

        Raises FailedPrecondition if it was one too many.
        """
        self._forget_old()
        key, now_s = digest(call), self._clock()
        suspect = self._suspects.pop(key, None) or _Suspect()
        if now_s - suspect.died_s.get(address, -_ONE_DEATH_S) >= _ONE_DEATH_S:
            suspect.deaths += 1
            suspect.died_s[address] = now_s
        suspect.until_s = now_s + self._refuse_s
        self._suspects[key] = suspect
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
            f"Engines died or hung {suspect.deaths} times while this request ran, so it is refused for the next"
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
        self._stopped_at: int | None = None
        """Tokens of the answer when an engine last died or fell silent."""
        self._died: set[str] = set()
        self._silent: set[str] = set()
        """Endpoints whose engines died or fell silent since the answer last grew."""

    async def note(self, address: str, error: InfermeshError, *, tokens: int = 0) -> None:
        """Notes that an endpoint failed after `tokens` tokens of the whole answer.

        Raises FailedPrecondition (POISONED_REQUEST) if the request must not be sent to another one.
        """
        died = error.reason == ENGINE_CRASHED
        if not (died or is_hang(error)):
            return
        self._absolve_beyond(tokens)
        self._stopped_at = tokens
        if died:
            self._died.add(address)
            self._silent.discard(address)
            self._poison.engine_died(self._call, address)
        else:
            self._silent.add(address)
        if len(self._died | self._silent) >= _DEATHS:
            await self._count_hung()

    def finished(self, *, tokens: int) -> None:
        """Notes that the answer is complete."""
        self._absolve_beyond(tokens)

    async def _count_hung(self) -> None:
        """Counts the silent engines as dead whose workers still answer: their machine and network are well."""
        silent = sorted(self._silent)
        answers = await asyncio.gather(*(self._poison.front_answers(address) for address in silent))
        hung = [address for address, answer in zip(silent, answers, strict=True) if answer]
        if len(self._died.union(hung)) < _DEATHS:
            return
        for address in hung:
            self._poison.engine_died(self._call, address)

    def _absolve_beyond(self, tokens: int) -> None:
        if self._stopped_at is not None and tokens > self._stopped_at:
            self._poison.absolve(self._call)
            self._stopped_at = None
            self._died.clear()
            self._silent.clear()


def digest(call: Call) -> bytes:
    """What a call asks for, in 16 bytes: the same for every client, seed and continuation."""
    body = call.body
    if call.method == GENERATE:
        body = _what(pb.GenerateRequest.FromString(body))
    elif call.method == SPEAK:
        body = _what(pb.SpeakRequest.FromString(body))
    elif call.method == TRANSCRIBE:
        body = _what(pb.TranscribeRequest.FromString(without_sound(body))) + sound_mark(body)
    return blake2b(body, digest_size=16, person=call.method[-16:].encode()).digest()


def _what(request: pb.GenerateRequest | pb.SpeakRequest | pb.TranscribeRequest) -> bytes:
    """A request without the fields that say who asks, or how far an answer has come."""
    for name in _WHO.intersection(request.DESCRIPTOR.fields_by_name):
        request.ClearField(name)
    return request.SerializeToString(deterministic=True)
