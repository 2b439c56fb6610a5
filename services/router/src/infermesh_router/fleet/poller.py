"""Owns following one endpoint's health: watch, lose, back off, watch again. Knows no policy and no other endpoint."""

import asyncio
import logging
import random
from dataclasses import dataclass

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.fleet.endpoint import Endpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerOptions:
    """How an endpoint is followed."""

    connect_timeout_s: float = 5.0
    """Longest wait for the first report."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 1.0
    min_interval_ms: int = 50
    """Shortest time between two reports that the endpoint is asked for."""


async def poll(endpoint: Endpoint, options: PollerOptions) -> None:
    """Follows the endpoint until cancelled. The pause between tries doubles up to its longest and is jittered."""
    backoff_s = options.backoff_min_s
    while True:
        was_lost_for = endpoint.last_error
        try:
            reason = await _watch(endpoint, options)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            reason = _describe(error)
        had_report = endpoint.connected
        endpoint.lose(reason)
        if had_report or not was_lost_for:
            _log.warning("endpoint %s is lost: %s", endpoint.address, reason)
        backoff_s = options.backoff_min_s if had_report else min(backoff_s * 2, options.backoff_max_s)
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret


async def _watch(endpoint: Endpoint, options: PollerOptions) -> str:
    """Passes on reports until the stream ends, and says why it did. Raises AioRpcError, TimeoutError."""
    stub = pb_grpc.InferenceServiceStub(endpoint.channel)  # type: ignore[no-untyped-call] # generated
    call = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=options.min_interval_ms))
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            message = await call.read()
        if isinstance(message, pb.WatchHealthResponse):
            _log.info("endpoint %s is reached", endpoint.address)
        while isinstance(message, pb.WatchHealthResponse):
            endpoint.report(message.report)
            message = await call.read()
        # what is no message of that kind is None
        return "its health stream ended" if message is grpc.aio.EOF else "its health report cannot be read"
    finally:
        call.cancel()


def _describe(error: grpc.aio.AioRpcError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return "no health report in time"
    return f"{error.code().name}: {error.details()}"
