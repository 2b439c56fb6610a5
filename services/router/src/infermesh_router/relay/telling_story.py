"""Tells a call's story what its receipt needs of a grant, of a stream, and of an answer in one message."""

from typing import Any

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.grant import Grant
from infermesh_router.journal.story import Story
from infermesh_router.requests.call import EMBED, SCORE
from infermesh_runtime.wire_fields import fields

_USAGE = pb.EmbedResponse.DESCRIPTOR.fields_by_name["usage"].number
"""The number of the same field in ScoreResponse."""
_MOST_FIELDS = 8


def tell_sent(story: Story, grant: Grant, overhead_s: float) -> None:
    """The call is sent to the grant's endpoint. `overhead_s`: what the router took, without queueing."""
    device = grant.endpoint.snapshot.device
    story.sent(grant.choice, device, queued_s=grant.queued_s, loading_s=grant.loading_s, overhead_s=overhead_s)


def tell_begun(story: Story, started: Any, grant: Grant, overhead_s: float) -> None:
    """The stream has begun on the grant's endpoint; `started` is what its client gets."""
    story.noted_first()
    if isinstance(started, pb.Started):
        story.begun(started, grant.choice)
    else:
        tell_sent(story, grant, overhead_s)


def tell_ended(story: Story, delivered: object) -> None:
    """The stream is over. What was delivered of it knows the ends of its choices, if it has choices."""
    story.ended(getattr(delivered, "ends", ()))


def tell_usage(story: Story, method: str, answer: bytes) -> None:
    """The tokens that a serialised answer says it took. Its vectors or scores are not read."""
    if method not in (EMBED, SCORE):
        return
    try:
        found = [content for number, _, _, content in fields(memoryview(answer), _MOST_FIELDS) if number == _USAGE]
        if found:
            story.used(pb.Usage.FromString(bytes(found[-1])))
    except (ValueError, IndexError, DecodeError):
        return  # whoever reads the answer says that it is malformed
