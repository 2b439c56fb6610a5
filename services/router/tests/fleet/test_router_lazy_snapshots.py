"""What requests change at an endpoint is taken over once, when somebody asks; what a report changes, at once."""

import asyncio

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet


def report(state: pb.EndpointState) -> pb.HealthReport:
    return pb.HealthReport(state=state, models=[pb.ModelStatus(name="m", state=state)])


async def never(_endpoint: Endpoint) -> None:
    await asyncio.Event().wait()


async def test_a_request_costs_one_snapshot() -> None:
    fleet = Fleet(open_channel=grpc.aio.insecure_channel, poll=never)
    fleet.set_addresses(["127.0.0.1:1"])
    endpoint = fleet.get("127.0.0.1:1")
    endpoint.note_report(report(pb.ENDPOINT_STATE_READY))
    await asyncio.sleep(0)
    before = fleet.snapshots.version
    for _ in range(3):
        lease = endpoint.acquire("m", prompt_tokens=10, sequences=1)
        await asyncio.sleep(0)
        endpoint.release(lease)
        await asyncio.sleep(0)
    held = endpoint.acquire("m", prompt_tokens=10, sequences=2)
    table = fleet.snapshots
    assert table.version == before + 1
    assert (table[0].in_flight, table[0].total.sequences, table[0].total.waiting_tokens) == (1, 2, 10)
    endpoint.release(held)
    assert fleet.snapshots[0].in_flight == 0
    await fleet.close()


async def test_a_lost_cache_is_noticed_though_nobody_asks() -> None:
    lost: list[str] = []
    fleet = Fleet(open_channel=grpc.aio.insecure_channel, poll=never, on_cache_lost=lost.append)
    fleet.set_addresses(["127.0.0.1:1"])
    endpoint = fleet.get("127.0.0.1:1")
    endpoint.acquire("m", prompt_tokens=1, sequences=1)  # what requests change is not taken over yet
    for state in (pb.ENDPOINT_STATE_READY, pb.ENDPOINT_STATE_LOADING, pb.ENDPOINT_STATE_READY):
        endpoint.note_report(report(state))
        await asyncio.sleep(0)
    assert lost == ["127.0.0.1:1"]
    await fleet.close()
