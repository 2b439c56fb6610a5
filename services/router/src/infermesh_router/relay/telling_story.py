"""Tells a call's story what its receipt needs of a grant, of a stream, and of an answer in one message."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.fleet.faults import Verdict, judge
from infermesh_router.journal.story import Story
from infermesh_router.relay.streams.delivered import Delivered
from infermesh_router.relay.streams.delivered_parts import DeliveredParts
from infermesh_router.relay.streams.stream_kind import Progress
from infermesh_router.requests.call import EMBED, SCORE
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.wire_fields import fields

_USAGE = pb.EmbedResponse.DESCRIPTOR.fields_by_name["usage"].number
"""The number of the same field in ScoreResponse."""
_MOST_FIELDS = 8


@contextmanager
def telling_wait(story: Story, pending: PendingCall, clock: Callable[[], float]) -> Iterator[None]:
    """In the block the call waits for an endpoint. If it gets none, its story says for how long."""
    try:
        yield
    except BaseException:
        if pending.waited:
            story.waited(queued_s=clock() - pending.since_s, loading_s=pending.loading_s)
        raise


def tell_failed(story: Story, address: str, error: InfermeshError) -> None:
    """The endpoint failed before the first token. It did not if the request itself is at fault."""
    if judge(error) is not Verdict.REFUSE:
        story.failed(address, error.reason or error.code.name)


def tell_answered(story: Story, grant: Grant, overhead_s: float) -> None:
    """The grant's endpoint answers the call. `overhead_s`: what the router took, without queueing."""
    device = grant.endpoint.snapshot.device
    story.answered(grant.choice, device, queued_s=grant.queued_s, loading_s=grant.loading_s, overhead_s=overhead_s)


def tell_begun(story: Story, started: Any, grant: Grant, overhead_s: float) -> None:
    """The stream has begun on the grant's endpoint; `started` is what its client gets."""
    story.noted_first()
    if isinstance(started, pb.Started):
        story.begun(started, grant.choice)
    else:
        tell_answered(story, grant, overhead_s)


def tell_ended(story: Story, delivered: Progress) -> None:
    """The stream is over, at its end or before."""
    if isinstance(delivered, Delivered):
        story.ended(delivered.ends, tokens=delivered.tokens)
    elif isinstance(delivered, DeliveredParts) and delivered.usage is not None:
        story.used(delivered.usage)


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
