"""Which messages a stream may consist of, and the request that continues it."""

from collections import deque
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.relay.streams.delivered import Delivered
from infermesh_router.relay.streams.event import read_event
from infermesh_runtime.errors import Unavailable


def message(**fields: Any) -> bytes:
    return pb.GenerateResponse(**fields).SerializeToString()


def test_a_continuation_holds_what_was_delivered_before_and_since() -> None:
    before = [pb.Continuation(choice=0, token_ids=[1, 2]), pb.Continuation(choice=2, token_ids=[7], finished=True)]
    body = pb.GenerateRequest(text="x", n=3, generated=before).SerializeToString()
    delivered = Delivered(3, 99)
    assert not delivered.is_complete(body)
    for choice, token_ids in ((0, [3]), (1, [8, 9]), (0, [4])):
        delivered.take(read_event(message(delta=pb.Delta(choice=choice, token_ids=token_ids))))
    delivered.take(read_event(message(finished=pb.Finished(choice=1))))
    assert not delivered.is_complete(body)
    request = pb.GenerateRequest.FromString(delivered.continuation(body))
    assert {part.choice: (list(part.token_ids), part.finished) for part in request.generated} == {
        0: ([1, 2, 3, 4], False),
        1: ([8, 9], True),
        2: ([7], True),
    }
    delivered.take(read_event(message(finished=pb.Finished(choice=0))))
    assert delivered.is_complete(body)


def test_a_continuation_is_sampled_as_its_beginning() -> None:
    """Another endpoint may have other defaults for the model."""
    body = pb.GenerateRequest(text="x", sampling=pb.SamplingParams(top_k=3, logit_bias={5: 1})).SerializeToString()
    delivered = Delivered(1, 99)
    sampling = pb.SamplingParams(temperature=0.2, top_k=3, top_p=0.9)
    delivered.begin(pb.Started(in_use=pb.GenerationDefaults(sampling=sampling, max_tokens=64)))
    request = pb.GenerateRequest.FromString(delivered.continuation(body))
    expected = pb.SamplingParams(temperature=0.2, top_k=3, top_p=0.9, logit_bias={5: 1})
    assert (request.sampling, request.stop.max_tokens) == (expected, 64)
    delivered.begin(pb.Started(in_use=pb.GenerationDefaults(sampling=sampling)))
    assert pb.GenerateRequest.FromString(delivered.continuation(body)).stop.max_tokens == 2**32 - 1
    delivered.begin(pb.Started())  # from a worker of an earlier version
    assert pb.GenerateRequest.FromString(delivered.continuation(body)).sampling == pb.SamplingParams(
        top_k=3, logit_bias={5: 1}
    )


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xff",
        b"",
        message(started=pb.Started()),
        message(delta=pb.Delta(choice=2)),
        message(delta=pb.Delta(choice=1)),
        message(finished=pb.Finished(choice=1)),
    ],
)
def test_what_a_stream_may_not_hold_is_malformed(bad: bytes) -> None:
    delivered = Delivered(2, 99)
    delivered.take(read_event(message(delta=pb.Delta(choice=1, token_ids=[1]))))
    delivered.take(read_event(message(finished=pb.Finished(choice=1))))
    with pytest.raises(Unavailable) as caught:
        delivered.take(read_event(bad))
    assert caught.value.reason == "MALFORMED_MESSAGE"


def test_an_end_tells_its_moves_before_those_behind_another_router() -> None:
    delivered = Delivered(1, 99)
    delivered.failovers.append(pb.Failover(from_endpoint="a", to_endpoint="b", reason="STREAM_CUT"))
    later = pb.Failover(from_endpoint="c", to_endpoint="d", reason="DRAINED")
    data, content = delivered.take(read_event(message(finished=pb.Finished(failovers=[later]))))
    told = pb.GenerateResponse.FromString(data)
    assert told == content
    assert [moved.from_endpoint for moved in told.finished.failovers] == ["a", "c"]


def test_a_stream_that_goes_on_beyond_its_tokens_is_malformed() -> None:
    one = message(delta=pb.Delta(token_ids=[1]))
    delivered = Delivered(1, 3)
    for _ in range(3):
        delivered.take(read_event(one))
    with pytest.raises(Unavailable, match="goes on after the 3 tokens") as caught:
        delivered.take(read_event(one))
    assert caught.value.reason == "MALFORMED_MESSAGE"
    with pytest.raises(Unavailable):
        Delivered(1, 3).take(read_event(message(delta=pb.Delta(token_ids=[1, 2, 3, 4]))))


def test_a_stream_of_deltas_without_tokens_ends_too() -> None:
    delivered, textual = Delivered(1, 3), read_event(message(delta=pb.Delta(text="x")))
    with pytest.raises(Unavailable, match="goes on after"):
        deque((delivered.take(textual) for _ in range(100)), maxlen=0)
