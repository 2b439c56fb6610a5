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

ATTEMPTS_PER_S = 50.0
"""How often lost endpoints are tried, all together. Each attempt takes about a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerOptions:
    """How to follow an endpoint."""

    connect_timeout_s: float = 5.0
    """Longest wait for the first report."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 1.0
    min_interval_ms: int = 50
    """Shortest time between two reports; the endpoint is asked to keep to it."""


class ReconnectPace:
    """Spreads the attempts to reach lost endpoints, so that a thousand dead ones do not take the router's time."""

    def __init__(self, attempts_per_s: float = ATTEMPTS_PER_S) -> None:
        self._attempts_per_s = attempts_per_s
        self._lost: set[str] = set()

    def note(self, address: str, *, lost: bool) -> None:
        """Whether the endpoint is lost now. One that is no longer followed is not."""
        (self._lost.add if lost else self._lost.discard)(address)

    def pause_s(self, backoff_s: float) -> float:
        """How long a lost endpoint pauses before its next attempt: its own backoff, or longer if many are lost."""
        return max(backoff_s, len(self._lost) / self._attempts_per_s)


async def poll(endpoint: Endpoint, options: PollerOptions, pace: ReconnectPace) -> None:
    """Follows the endpoint until cancelled. The jittered pause between attempts doubles up to `backoff_max_s`.

    It is longer while so many endpoints are lost that `pace` says so.
    """
    try:
        await _poll(endpoint, options, pace)
    finally:
        pace.note(endpoint.address, lost=False)


async def _poll(endpoint: Endpoint, options: PollerOptions, pace: ReconnectPace) -> None:
    backoff_s = options.backoff_min_s
    while True:
        was_lost_for = endpoint.last_error
        try:
            reason = await _watch(endpoint, options, pace)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            reason = _describe(error)
        had_report = endpoint.connected
        endpoint.note_loss(reason)
        pace.note(endpoint.address, lost=True)
        if had_report or not was_lost_for:
            _log.warning("lost endpoint %s: %s", endpoint.address, reason)
        backoff_s = options.backoff_min_s if had_report else min(backoff_s * 2, options.backoff_max_s)
        await asyncio.sleep(pace.pause_s(backoff_s) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret


async def _watch(endpoint: Endpoint, options: PollerOptions, pace: ReconnectPace) -> str:
    """Passes on reports until the stream ends; returns why it did. Raises AioRpcError, TimeoutError."""
    stub = pb_grpc.InferenceServiceStub(endpoint.channel)
    call = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=options.min_interval_ms))
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            message = await call.read()
        if isinstance(message, pb.WatchHealthResponse):
            pace.note(endpoint.address, lost=False)
            _log.info("connected to endpoint %s", endpoint.address)
            if endpoint.frames is not None:
                await endpoint.frames.settle()
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
