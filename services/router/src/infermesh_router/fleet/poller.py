"""Follows the health stream of one endpoint, and reconnects with backoff when it breaks."""

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
    """How to follow an endpoint."""

    connect_timeout_s: float = 5.0
    """Longest wait for the first report."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 1.0
    min_interval_ms: int = 50
    """Shortest time between two reports; the endpoint is asked to keep to it."""


async def poll(endpoint: Endpoint, options: PollerOptions) -> None:
    """Follows the endpoint until cancelled. The jittered pause between attempts doubles up to `backoff_max_s`."""
    backoff_s = options.backoff_min_s
    while True:
        was_lost_for = endpoint.last_error
        try:
            reason = await _watch(endpoint, options)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            reason = _describe(error)
        had_report = endpoint.connected
        endpoint.note_loss(reason)
        if had_report or not was_lost_for:
            _log.warning("lost endpoint %s: %s", endpoint.address, reason)
        backoff_s = options.backoff_min_s if had_report else min(backoff_s * 2, options.backoff_max_s)
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret


async def _watch(endpoint: Endpoint, options: PollerOptions) -> str:
    """Passes on reports until the stream ends; returns why it did. Raises AioRpcError, TimeoutError."""
    stub = pb_grpc.InferenceServiceStub(endpoint.channel)
    call = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=options.min_interval_ms))
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            message = await call.read()
        if isinstance(message, pb.WatchHealthResponse):
            _log.info("connected to endpoint %s", endpoint.address)
        while isinstance(message, pb.WatchHealthResponse):
            endpoint.note_report(message.report)
            message = await call.read()
        # gRPC gives None for a message that it cannot parse
        return "its health stream ended" if message is grpc.aio.EOF else "it sent a malformed health report"
    finally:
        call.cancel()


def _describe(error: grpc.aio.AioRpcError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return "it sent no health report in time"
    return f"{error.code().name}: {error.details()}"
