"""What an error of an endpoint means, before the first token and after it."""

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from infermesh_router.fleet.faults import Verdict, judge, judge_running, to_error
from infermesh_runtime.errors import (
    DeadlineExceeded,
    InfermeshError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)


def cancelled_by_its_server() -> InfermeshError:
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
        (Unavailable("x", reason="FORMATS_UNAVAILABLE"), Verdict.LEAVE, Verdict.LEAVE),
        (Unavailable("x", reason="TEMPLATES_UNAVAILABLE"), Verdict.LEAVE, Verdict.LEAVE),
        (Unavailable("x", reason="ENGINE_CRASHED"), Verdict.FAULT, Verdict.FAULT),
        (Internal("x"), Verdict.FAULT_ONCE, Verdict.FAULT_ONCE),
        (Internal("x", reason="LOGITS_NOT_FINITE"), Verdict.FAULT_ONCE, Verdict.FAULT_ONCE),
    ],
)
def test_verdicts(error: InfermeshError, before: Verdict, running: Verdict) -> None:
    assert (judge(error), judge_running(error)) == (before, running)
