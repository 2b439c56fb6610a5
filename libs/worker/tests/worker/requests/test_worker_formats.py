"""A costly output format is refused, and streams beside it go on meanwhile."""

import asyncio
import json
import time
from typing import Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.errors import Code
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing import processes
from infermesh_worker.testing.processes import simulated_worker_process

pytestmark = pytest.mark.alone  # a busy machine is an answer of its own

MAX_GAP_S = 1.0
"""Far more than the 50 ms that we want on an idle machine, and far less than the seconds that the formats take."""
OPTIONAL = json.dumps({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(10_000)}})
COSTLY = [
    ("json_schema", '{"type": "integer", "multipleOf": 99999999}'),
    ("json_schema", OPTIONAL),
    ("grammar", "start: " + " | ".join(f'"word{i:06d}x"' for i in range(60_000))),
    ("regex", "(a{1000}){1000}"),
    ("json_schema", json.dumps({"description": "x" * (5 << 20)})),
]


async def longest_gap_s(call: Any, until: asyncio.Event) -> float:
    """The longest wait between two events of a stream, until the test says that it is done."""
    longest_s, last_s = 0.0, time.monotonic()
    while not until.is_set():
        assert (await call.read()) is not grpc.aio.EOF
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s


async def refused(stub: InferenceServiceStub, kind: str, spec: str) -> None:
    constraint: Any = {kind: spec}
    made = pb.OutputFormat(**constraint)
    call = stub.Generate(pb.GenerateRequest(text="a", format=made), timeout=60)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = from_rpc_error(caught.value)
    assert error.code is Code.INVALID_ARGUMENT
    assert list(error.fields) == [f"format.{kind}"]


async def test_costly_formats_are_refused_while_another_stream_goes_on() -> None:
    async with (
        simulated_worker_process(sim_itl_s=0.002, sim_context_length=1 << 20, sim_kv_tokens=1 << 20) as worker,
        processes.connected(worker) as stubs,
    ):
        stub, done = stubs.inference, asyncio.Event()
        beside = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=1_000_000)))
        await beside.read()
        gap = asyncio.create_task(longest_gap_s(beside, done))
        for kind, spec in COSTLY:
            await refused(stub, kind, spec)
            await refused(stub, kind, spec)
        done.set()
        assert await gap < MAX_GAP_S
        beside.cancel()
        assert [line for line in worker.log if line.get("message") == "engine ended"] == []


async def test_request_that_waits_for_its_format_can_be_cancelled() -> None:
    async with (
        simulated_worker_process(grammar_timeout_s=1.0, sim_eos=True) as worker,
        processes.connected(worker) as stubs,
    ):
        costly = pb.OutputFormat(json_schema=COSTLY[0][1])
        call = stubs.inference.Generate(pb.GenerateRequest(text="a", format=costly))
        watch = stubs.inference.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
        while (await watch.read()).report.load.waiting == 0:
            pass
        call.cancel()
        watch.cancel()
        constrained = pb.GenerateRequest(text="a", format=pb.OutputFormat(regex="[0-9]{3}"))
        text = "".join([event.delta.text async for event in stubs.inference.Generate(constrained, timeout=30)])
        assert len(text) == 3
        assert text.isdigit()


async def test_members_that_a_schema_does_not_list() -> None:
    """The output so far has a second member: whether it can go on tells whether the schema allows that."""
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    async with (
        simulated_worker_process(json_objects="open", sim_eos=True) as worker,
        processes.connected(worker) as stubs,
    ):
        request = pb.GenerateRequest(text="a", format=pb.OutputFormat(json_schema=schema))
        request.stop.max_tokens = 20
        request.generated.add(token_ids=b'{"a":1,')  # this worker's tokens are bytes
        assert [event async for event in stubs.inference.Generate(request, timeout=30)]
        request.format.open_objects = False
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.inference.Generate(request, timeout=30).read()
        assert list(from_rpc_error(caught.value).fields) == ["format.json_schema"]
