"""Asks an endpoint whether its front still answers, which tells a hung engine from a lost machine or network."""

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_router.fleet.endpoint_set import Fleet

_TIMEOUT_S = 1.0


async def front_answers(fleet: Fleet, address: str) -> bool:
    """Whether the endpoint sends a health report within a second; False if it has left the fleet."""
    try:
        channel = fleet.get(address).channel
    except KeyError:
        return False
    call = InferenceServiceStub(channel).WatchHealth(pb.WatchHealthRequest(), timeout=_TIMEOUT_S)
    try:
        return await call.read() is not grpc.aio.EOF
    except grpc.aio.AioRpcError:
        return False
    finally:
        call.cancel()
