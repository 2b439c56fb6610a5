"""No request of a client counts as a fault of the endpoint, which would open its circuit breaker for everybody.

The breaker counts UNAVAILABLE, INTERNAL, UNKNOWN and DATA_LOSS, and a stream that ends before its choices do; the
router answers the latter with UNAVAILABLE. BLAME_REQUESTS=5000 sends more, and new ones each time.
"""

import contextlib
import os
from collections.abc import AsyncIterable

import grpc
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.rpc.status import from_rpc_error
from tests.contract.odd_requests import odd_requests, show
from tests.contract.target import Target

pytestmark = pytest.mark.asyncio(loop_scope="session")

REQUESTS = int(os.environ.get("BLAME_REQUESTS", "40"))
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE}


def finished(*choices: int, n: int) -> pb.GenerateRequest:
    ended = [pb.Continuation(choice=choice, token_ids=[65], finished=True) for choice in choices]
    return pb.GenerateRequest(text="hello", n=n, generated=ended, stop=pb.StopConditions(max_tokens=2))


async def ends(stream: AsyncIterable[pb.GenerateResponse]) -> dict[int, int]:
    """How many ends of each choice a stream has. Raises AioRpcError."""
    counts: dict[int, int] = {}
    async for response in stream:
        if response.HasField("finished"):
            counts[response.finished.choice] = counts.get(response.finished.choice, 0) + 1
    return counts


@pytest.mark.parametrize("request_", [finished(0, n=1), finished(1, 0, n=2)], ids=["one", "two"])
async def test_nothing_left_to_run(target: Target, request_: pb.GenerateRequest) -> None:
    for _ in range(6):  # one more than open the breaker
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ends(target.stub.Generate(request_))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "generated" in from_rpc_error(refused.value).fields
    assert await ends(target.stub.Generate(finished(0, n=2))) == {1: 1}


@pytest.mark.timeout(3600)
@settings(
    max_examples=REQUESTS,
    derandomize="BLAME_REQUESTS" not in os.environ,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(request_=odd_requests())
async def test_odd_requests(target: Target, request_: pb.GenerateRequest) -> None:
    ended = {part.choice for part in request_.generated if part.finished}
    code, counts = grpc.StatusCode.OK, dict[int, int]()
    with contextlib.suppress(grpc.aio.AioRpcError):
        call = target.stub.Generate(request_, timeout=60)
        try:
            counts = await ends(call)
        finally:
            code = await call.code()
    event(f"status {code.name}")
    assert code not in FAULTS, (code, show(request_))
    if code is not grpc.StatusCode.OK:
        return
    assert counts == dict.fromkeys(set(range(request_.n or 1)) - ended, 1), show(request_)
