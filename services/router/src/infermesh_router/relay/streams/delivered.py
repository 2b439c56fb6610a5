"""Remembers what a stream has delivered, and writes the request that continues it on another endpoint."""

from array import array
from collections.abc import Sequence

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.relay.streams.event import Event, malformed, write_event

_SPARE = 16
"""Deltas without a token that a stream may have beyond one for each token."""
_NO_LIMIT = 2**32 - 1
_MOST_TOKENS = 1 << 20
"""Most tokens of a choice if neither the request nor the model's context says less."""


class Delivered:
    """The token ids of each choice that the client was given, and which choices have ended.

    Of a stream, only four bytes per token are kept.
    """

    __slots__ = (
        "_choices",
        "_finished",
        "_in_use",
        "_token_ids",
        "_told",
        "_uneven",
        "ends",
        "failovers",
        "most_tokens",
    )

    def __init__(self, choices: int, most_tokens: int) -> None:
        """`most_tokens`: of each choice; a stream that goes on beyond them is malformed. 0: the request says none."""
        self._choices = choices
        self._told = bool(most_tokens)
        self.most_tokens = most_tokens or _MOST_TOKENS
        self._uneven = 0
        """Deltas without exactly one token."""
        self._token_ids: dict[int, array[int]] = {}
        self._finished: set[int] = set()
        self._in_use: pb.GenerationDefaults | None = None
        self.failovers: list[pb.Failover] = []
        """The stream's moves so far, oldest first."""
        self.ends: list[pb.Finished] = []
        """The ends of its choices so far."""

    @property
    def tokens(self) -> int:
        """How many tokens were delivered, over all choices."""
        return sum(map(len, self._token_ids.values()))

    def begin(self, started: pb.Started, context_length: int = 0) -> None:
        """Remembers how the stream's tokens are sampled, so that they stay so wherever it moves.

        `context_length`: the model's; 0: not known.
        """
        self._in_use = started.in_use if started.HasField("in_use") else None
        if not self._told:
            self.most_tokens = context_length or _MOST_TOKENS

    def resume(self, started: pb.Started, event: Event) -> Event:  # noqa: ARG002 - as of other streams
        """As `take`, for the first event of an endpoint that continues the stream."""
        return self.take(event)

    def take(self, event: Event) -> Event:
        """Records an event that is about to be delivered, and returns it. The end of a choice gets the moves added.

        Raises Unavailable (MALFORMED_MESSAGE) unless it is a delta or the end of a choice that is still open.
        """
        _, content = event
        if content.HasField("delta"):
            delta = content.delta
            choice = delta.choice
            delivered = self._token_ids.get(choice)
            if delivered is None or choice in self._finished:
                delivered = self._open(choice)
            token_ids = delta.token_ids
            if len(token_ids) == 1 and len(delivered) < self.most_tokens:
                delivered.append(token_ids[0])  # nearly every delta: several times faster than `extend`
            else:
                self._take_several(delivered, token_ids)
            return event
        if not content.HasField("finished"):
            raise malformed("is neither a delta nor the end of a choice")
        return self._finish(event)

    def continuation(self, body: bytes) -> bytes:
        """The request that continues after what was delivered, made from the serialised GenerateRequest."""
        request = pb.GenerateRequest.FromString(body)
        if self._in_use is not None:
            settle(request, self._in_use)
        before = {part.choice: part for part in request.generated}
        for choice in sorted({*self._token_ids, *self._finished}):
            part = before.get(choice) or request.generated.add(choice=choice)
            part.token_ids.extend(self._token_ids.get(choice, ()))
            part.finished = part.finished or choice in self._finished
        return request.SerializeToString()

    def is_complete(self, body: bytes) -> bool:
        """Whether every choice of the request has ended."""
        if len(self._finished) >= self._choices:
            return True
        if not self._finished:
            return False
        ended = {part.choice for part in pb.GenerateRequest.FromString(body).generated if part.finished}
        return len(self._finished | ended) >= self._choices

    def _take_several(self, delivered: "array[int]", token_ids: Sequence[int]) -> None:
        self._uneven += 1
        if (
            len(delivered) + len(token_ids) > self.most_tokens
            or self._uneven > _SPARE + self._choices * self.most_tokens
        ):
            raise malformed(f"goes on after the {self.most_tokens} tokens that a choice may have")
        delivered.extend(token_ids)

    def _open(self, choice: int) -> "array[int]":
        if choice >= self._choices or choice in self._finished:
            raise malformed(f"belongs to choice {choice}, which is not open")
        return self._token_ids.setdefault(choice, array("I"))

    def _finish(self, event: Event) -> Event:
        _, content = event
        finished = content.finished
        self._open(finished.choice)
        self._finished.add(finished.choice)
        self.ends.append(finished)
        if not self.failovers:
            return event
        later = list(finished.failovers)
        del finished.failovers[:]
        finished.failovers.extend([*self.failovers, *later])
        return write_event(content)


def settle(request: pb.GenerateRequest, in_use: pb.GenerationDefaults) -> None:
    """Sets what the request left to the defaults of its first endpoint, as another endpoint may have others."""
    sampling = pb.SamplingParams()
    sampling.CopyFrom(in_use.sampling)
    sampling.MergeFrom(request.sampling)
    request.sampling.CopyFrom(sampling)
    if not request.stop.HasField("max_tokens"):
        request.stop.max_tokens = in_use.max_tokens if in_use.HasField("max_tokens") else _NO_LIMIT
