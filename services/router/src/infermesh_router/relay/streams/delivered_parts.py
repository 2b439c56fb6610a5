"""Remembers how many parts of speech a stream has delivered, and writes the request that continues it elsewhere.

A part is a segment of text, or a piece of sound. Workers number them, so that a count says which are there.
"""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.relay.streams.event import StreamEvent, malformed, write_event
from infermesh_router.requests.call import TRANSCRIBE, Call
from infermesh_router.requests.kinds.sound import without_sound

_SEGMENT, _AUDIO = "segment", "audio"


class DeliveredParts:
    """The parts of one Transcribe or Speak stream."""

    def __init__(self, call: Call) -> None:
        self._made: type[Any]
        if call.method == TRANSCRIBE:
            self._part, self._count = _SEGMENT, "delivered_segments"
            self._made, light = pb.TranscribeRequest, without_sound(call.body)
        else:
            self._part, self._count = _AUDIO, "delivered_pieces"
            self._made, light = pb.SpeakRequest, call.body
        self._first = self._next = int(getattr(self._made.FromString(light), self._count))
        self._sample_rate = 0
        self._samples = 0
        """Of the sound that was delivered."""
        self._ended = False
        self.usage: pb.Usage | None = None
        """Tokens that a Transcribe took; None until its end."""
        self.failovers: list[pb.Failover] = []
        """The stream's moves so far, oldest first."""

    @property
    def tokens(self) -> int:
        """How many parts were delivered."""
        return self._next - self._first

    def begin(self, started: pb.AudioStarted, context_length: int) -> None:  # noqa: ARG002 - as of other streams
        """Remembers how many samples a second the sound has."""
        self._sample_rate = started.sample_rate

    def resume(self, started: pb.AudioStarted, event: StreamEvent) -> StreamEvent:
        """As `take`, for the first event of an endpoint that continues the stream. `started`: its own beginning.

        Raises Unavailable (MALFORMED_MESSAGE) for sound of another rate.
        """
        if event[1].HasField(self._part) and started.sample_rate != self._sample_rate:
            raise malformed(f"has sound of {started.sample_rate} samples a second, after {self._sample_rate}")
        return self.take(event)

    def take(self, event: StreamEvent) -> StreamEvent:
        """Records an event that is about to be delivered, and returns it. The end gets the moves added.

        Raises Unavailable (MALFORMED_MESSAGE) unless it is the next part, or the end.
        """
        _, content = event
        if self._ended:
            raise malformed("comes after the end of its stream")
        if content.HasField(self._part):
            index = getattr(content, self._part).index
            if index != self._next:
                raise malformed(f"is part {index} of its stream, where part {self._next} is due")
            self._next += 1
            if self._part == _AUDIO:
                self._samples += sum(content.audio.samples.shape)
            return event
        if not content.HasField("finished"):
            raise malformed("is neither a part of its stream nor the end")
        self._ended = True
        if self._part == _SEGMENT:
            self.usage = content.finished.usage
        if not self.failovers:
            return event
        later = list(content.finished.failovers)
        del content.finished.failovers[:]
        content.finished.failovers.extend([*self.failovers, *later])
        if self._sample_rate and not self._first:  # the last endpoint may know of its own part only
            content.finished.duration_s = self._samples / self._sample_rate
        return write_event(content)

    def continuation(self, body: bytes) -> bytes:
        """The request that continues after what was delivered, made from the serialised one."""
        told: bytes = self._made(**{self._count: self._next}).SerializeToString()
        return body + told

    def is_complete(self, body: bytes) -> bool:  # noqa: ARG002 - as of other streams
        """Whether the end was delivered."""
        return self._ended
