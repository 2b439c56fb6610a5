"""Remembers what a stream has delivered, and writes the request that continues it on another endpoint."""

from array import array

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.relay.event import Event, malformed, write_event


class Delivered:
    """The token ids of each choice that the client was given, and which choices have ended.

    Of a stream, only four bytes per token are kept.
    """

    __slots__ = ("_choices", "_finished", "_token_ids", "failovers")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._token_ids: dict[int, array[int]] = {}
        self._finished: set[int] = set()
        self.failovers: list[pb.Failover] = []
        """The stream's moves so far, oldest first."""

    @property
    def tokens(self) -> int:
        """How many tokens were delivered, over all choices."""
        return sum(map(len, self._token_ids.values()))

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
            if len(token_ids) == 1:  # nearly every delta: several times faster than `extend`
                delivered.append(token_ids[0])
            else:
                delivered.extend(token_ids)
            return event
        if not content.HasField("finished"):
            raise malformed("is neither a delta nor the end of a choice")
        return self._finish(event)

    def continuation(self, body: bytes) -> bytes:
        """The request that continues after what was delivered, made from the serialised GenerateRequest."""
        request = pb.GenerateRequest.FromString(body)
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

    def _open(self, choice: int) -> "array[int]":
        if choice >= self._choices or choice in self._finished:
            raise malformed(f"belongs to choice {choice}, which is not open")
        return self._token_ids.setdefault(choice, array("I"))

    def _finish(self, event: Event) -> Event:
        _, content = event
        finished = content.finished
        self._open(finished.choice)
        self._finished.add(finished.choice)
        if not self.failovers:
            return event
        later = list(finished.failovers)
        del finished.failovers[:]
        finished.failovers.extend([*self.failovers, *later])
        return write_event(content)
