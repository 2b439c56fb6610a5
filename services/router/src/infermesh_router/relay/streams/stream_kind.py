"""What distinguishes the kinds of stream that the router relays: their messages, and how far they have come."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.grant import Grant
from infermesh_router.relay.streams.delivered import Delivered
from infermesh_router.relay.streams.delivered_parts import DeliveredParts
from infermesh_router.relay.streams.event import StreamEvent, read_audio_event, read_event
from infermesh_router.requests.call import GENERATE, SPEAK, TRANSCRIBE, Call


class Progress(Protocol):
    """How far a stream has come."""

    failovers: list[pb.Failover]
    """Its moves so far, oldest first."""

    @property
    def tokens(self) -> int:
        """How many tokens, or parts, were delivered."""
        ...

    def begin(self, started: Any, context_length: int) -> None:
        """Remembers how the stream began. `context_length`: the model's on that endpoint; 0: not known."""
        ...

    def resume(self, started: Any, event: StreamEvent) -> StreamEvent:
        """As `take`, for the first event of an endpoint that continues the stream. `started`: its own beginning."""
        ...

    def take(self, event: StreamEvent) -> StreamEvent:
        """Records an event that is about to be delivered, and returns it. Raises Unavailable (MALFORMED_MESSAGE)."""
        ...

    def continuation(self, body: bytes) -> bytes:
        """The request that continues after what was delivered, made from the serialised one."""
        ...

    def is_complete(self, body: bytes) -> bool:
        """Whether the stream has ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamKind:
    """One kind of stream."""

    response: type[Any]
    """Its messages."""
    read: Callable[[bytes], StreamEvent]
    """Parses one. Raises Unavailable (MALFORMED_MESSAGE)."""
    progress: Callable[[Call], Progress]
    """That of a new stream."""
    tell_way: Callable[[Any, Grant, float], None]
    """Writes into `started` what the router did, given the grant, and the time that the router itself took."""
    steady: bool
    """Whether its events come so regularly that a much longer silence than usual tells that something is wrong."""


def _delivered_tokens(call: Call) -> Delivered:
    return Delivered(call.wanted.sequences, call.wanted.max_tokens)


def _tell_way(started: pb.Started, grant: Grant, overhead_s: float) -> None:
    _tell_audio_way(started, grant, overhead_s)
    started.loading_ms += round(1000 * grant.loading_s)
    started.overhead_ms += 1000 * overhead_s  # routers behind this one have added theirs


def _tell_audio_way(started: pb.Started | pb.AudioStarted, grant: Grant, overhead_s: float) -> None:  # noqa: ARG001
    started.endpoint = grant.endpoint.address
    started.reason = grant.reason
    started.queued_ms += round(1000 * grant.queued_s)


def _audio_kind(response: type[pb.TranscribeResponse | pb.SpeakResponse]) -> StreamKind:
    return StreamKind(
        response=response,
        read=partial(read_audio_event, response),
        progress=DeliveredParts,
        tell_way=_tell_audio_way,
        steady=False,
    )


STREAM_KINDS = {
    GENERATE: StreamKind(
        response=pb.GenerateResponse,
        read=read_event,
        progress=_delivered_tokens,
        tell_way=_tell_way,
        steady=True,
    ),
    TRANSCRIBE: _audio_kind(pb.TranscribeResponse),
    SPEAK: _audio_kind(pb.SpeakResponse),
}
"""The kinds, by the method of their calls."""
