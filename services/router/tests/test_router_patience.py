"""How long silence is borne, the messages that a stream may consist of, and what errors mean."""

import math

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.faults import Verdict, judge, judge_running, to_error
from infermesh_router.policy.snapshot import EndpointSnapshot
from infermesh_router.relay.failover import Delivered
from infermesh_router.relay.hedge import FirstTokenDelays
from infermesh_router.relay.patience import Patience
from infermesh_runtime.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)

PATIENCE = Patience(first_token_min_s=10, first_token_max_s=100, stall_min_s=2, stall_max_s=60)


def endpoint(**fields: object) -> EndpointSnapshot:
    rates = {"prefill_tokens_per_s": 100.0, "decode_tokens_per_s": 128.0}
    return EndpointSnapshot(address="a", **{**rates, **fields})


def test_a_first_token_may_take_what_the_queue_and_the_prompt_need() -> None:
    assert PATIENCE.first_token_s(endpoint()) == 10
    assert PATIENCE.first_token_s(endpoint(waiting_tokens=500, sequences=2)) == 10 + 3 * (5 + 2)
    assert PATIENCE.first_token_s(endpoint(waiting_tokens=10_000)) == 100
    assert PATIENCE.first_token_s(endpoint(prefill_tokens_per_s=0.0)) == 100


def test_a_stall_is_measured_in_gaps_between_tokens() -> None:
    assert PATIENCE.stall_s(endpoint(), 0.01) == 2
    assert PATIENCE.stall_s(endpoint(), 0.1) == pytest.approx(5)
    assert PATIENCE.stall_s(endpoint(sequences=32), 0.1) == pytest.approx(12.5)
    assert PATIENCE.stall_s(endpoint(sequences=32, waiting_tokens=100), 0.1) == pytest.approx(15.5)
    assert PATIENCE.stall_s(endpoint(), 10) == 60
    assert PATIENCE.stall_s(endpoint(kv_cache_usage=0.99), 0.01) == 60
    assert PATIENCE.stall_s(endpoint(decode_tokens_per_s=0.0, prefill_tokens_per_s=0.0), 0.0) == 2


def test_slow_is_what_few_of_the_last_requests_were() -> None:
    delays = FirstTokenDelays()
    for milliseconds in range(19):
        delays.note(milliseconds / 1000)
    assert delays.slow_s() == math.inf
    delays.note(9.0)
    assert delays.slow_s() == 0.018


def cancelled_by_its_server() -> Exception:
    """What a call gets that reaches a server when it stops."""
    return to_error(AioRpcError(grpc.StatusCode.CANCELLED, Metadata(), Metadata(), "CANCELLED"))


@pytest.mark.parametrize(
    ("error", "before", "running"),
    [
        (InvalidArgument("x"), Verdict.REFUSE, Verdict.REFUSE),
        (DeadlineExceeded("x"), Verdict.REFUSE, Verdict.REFUSE),
        (cancelled_by_its_server(), Verdict.LEAVE, Verdict.LEAVE),
        (ResourceExhausted("x", reason="QUEUE_FULL"), Verdict.BUSY, Verdict.LEAVE),
        (ResourceExhausted("x"), Verdict.REFUSE, Verdict.LEAVE),
        (Unavailable("x", reason="WORKER_DRAINING"), Verdict.LEAVE, Verdict.LEAVE),
        (Unavailable("x", reason="ENGINE_CRASHED"), Verdict.FAULT, Verdict.FAULT),
        (Internal("x"), Verdict.FAULT_ONCE, Verdict.FAULT_ONCE),
    ],
)
def test_verdicts(error: Exception, before: Verdict, running: Verdict) -> None:
    assert (judge(error), judge_running(error)) == (before, running)


def message(**fields: object) -> bytes:
    return pb.GenerateResponse(**fields).SerializeToString()


def test_a_continuation_holds_what_was_delivered_before_and_since() -> None:
    before = [pb.Continuation(choice=0, token_ids=[1, 2]), pb.Continuation(choice=2, token_ids=[7], finished=True)]
    body = pb.GenerateRequest(text="x", n=3, generated=before).SerializeToString()
    delivered = Delivered(3)
    assert not delivered.is_complete(body)
    for choice, token_ids in ((0, [3]), (1, [8, 9]), (0, [4])):
        delivered.take(message(delta=pb.Delta(choice=choice, token_ids=token_ids)))
    delivered.take(message(finished=pb.Finished(choice=1)))
    assert not delivered.is_complete(body)
    request = pb.GenerateRequest.FromString(delivered.continuation(body))
    assert {part.choice: (list(part.token_ids), part.finished) for part in request.generated} == {
        0: ([1, 2, 3, 4], False),
        1: ([8, 9], True),
        2: ([7], True),
    }
    delivered.take(message(finished=pb.Finished(choice=0)))
    assert delivered.is_complete(body)


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
    delivered = Delivered(2)
    delivered.take(message(delta=pb.Delta(choice=1, token_ids=[1])))
    delivered.take(message(finished=pb.Finished(choice=1)))
    with pytest.raises(Unavailable) as caught:
        delivered.take(bad)
    assert caught.value.reason == "MALFORMED_MESSAGE"


def test_an_end_tells_its_moves_before_those_behind_another_router() -> None:
    delivered = Delivered(1)
    delivered.failovers.append(pb.Failover(from_endpoint="a", to_endpoint="b", reason="STREAM_CUT"))
    later = pb.Failover(from_endpoint="c", to_endpoint="d", reason="DRAINED")
    told = pb.GenerateResponse.FromString(delivered.take(message(finished=pb.Finished(failovers=[later]))))
    assert [moved.from_endpoint for moved in told.finished.failovers] == ["a", "c"]
