"""An endpoint whose poller fails is not used until it is followed again."""

import asyncio

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_runtime.background.tasks import TaskSupervisor


async def test_a_failed_poller_loses_the_endpoint_and_is_started_again() -> None:
    polls = 0
    failed, again = asyncio.Event(), asyncio.Event()

    async def poll(endpoint: Endpoint) -> None:
        nonlocal polls
        polls += 1
        endpoint.note_report(pb.HealthReport(state=pb.ENDPOINT_STATE_READY))
        if polls == 1:
            raise ValueError("a report that nobody expected")
        again.set()
        await asyncio.Event().wait()

    async def sleep(_seconds: float) -> None:
        failed.set()
        await may_restart.wait()

    may_restart = asyncio.Event()
    tasks = TaskSupervisor(sleep=sleep)
    fleet = Fleet(open_channel=grpc.aio.insecure_channel, poll=poll, tasks=tasks)
    fleet.set_addresses(["127.0.0.1:1"])
    async with asyncio.timeout(5):
        await failed.wait()
        endpoint = fleet.get("127.0.0.1:1")
        assert (endpoint.connected, "nobody expected" in endpoint.last_error) == (False, True)
        may_restart.set()
        await again.wait()
        assert (endpoint.connected, tasks.restarts["poller"]) == (True, 1)
    await fleet.close()
    assert tasks.running == []
