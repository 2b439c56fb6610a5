"""Owns what a stream has delivered, and the request that goes on after it. Knows messages, no endpoint and no call."""

from array import array

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.faults import MALFORMED_MESSAGE
from infermesh_runtime.errors import Unavailable


class Delivered:
    """The token ids of each choice that were handed to the client, and which choices have ended.

    Four bytes a token are all that is kept of a stream.
    """

    __slots__ = ("_choices", "_finished", "_token_ids", "failovers")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._token_ids: dict[int, array[int]] = {}
        self._finished: set[int] = set()
        self.failovers: list[pb.Failover] = []
        """Moves so far, oldest first."""

    def take(self, message: bytes) -> bytes:
        """Notes a message that is about to be delivered; gives it back, an end of a choice with the moves before it.

        Raises Unavailable (MALFORMED_MESSAGE) when it is no delta or end of a choice that is still open.
        """
        try:
            event = pb.GenerateResponse.FromString(message)
        except DecodeError:
            raise _malformed("which is no message") from None
        if event.HasField("delta"):
            delta = event.delta
            choice = delta.choice
            token_ids = self._token_ids.get(choice)
            if token_ids is None or choice in self._finished:
                token_ids = self._open(choice)
            token_ids.extend(delta.token_ids)
            return message
        if not event.HasField("finished"):
            raise _malformed("neither a delta nor an end")
        return self._finish(event, message)

    def continuation(self, body: bytes) -> bytes:
        """The request that goes on after what was delivered, from the serialised GenerateRequest."""
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
            raise _malformed(f"of choice {choice}, which is not open")
        return self._token_ids.setdefault(choice, array("I"))

    def _finish(self, event: pb.GenerateResponse, message: bytes) -> bytes:
        self._open(event.finished.choice)
        self._finished.add(event.finished.choice)
        if not self.failovers:
            return message
        later = list(event.finished.failovers)
        del event.finished.failovers[:]
        event.finished.failovers.extend([*self.failovers, *later])
        return event.SerializeToString()


def _malformed(what: str) -> Unavailable:
    return Unavailable(f"The endpoint sent something {what}.", reason=MALFORMED_MESSAGE)
