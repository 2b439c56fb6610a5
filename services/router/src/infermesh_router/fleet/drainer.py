"""Drains an endpoint for every router, and takes it back into service."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import grpc

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh.inference.v1 import inference_pb2
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.faults import operator_error
from infermesh_runtime.errors import NotFound

_DRAINING = inference_pb2.ENDPOINT_STATE_DRAINING
_MOVE_AGAIN_S = 0.5
"""Pause between two rounds of moving streams: some were only about to begin in the round before."""
_ANSWER_TIMEOUT_S = 10.0
_OTHERS_TIMEOUT_S = 2.0
"""How long to wait for the other routers' answers once the endpoint has drained: one that hangs gives none."""


class Others(Protocol):
    """The other routers of the mesh, as `siblings.Siblings`."""

    async def drain(self, request: pb.DrainEndpointRequest) -> int:
        """Has them drain an endpoint, each of its own streams; returns how many they moved."""

    async def drain_theirs(self, request: pb.DrainEndpointRequest) -> int | None:
        """The same for one that only others follow; None: none does. Raises AioRpcError."""

    async def resume_theirs(self, address: str) -> bool:
        """Has those resume an endpoint that follow it; returns whether any does. Raises AioRpcError."""


class Drainer:
    """Drains and resumes endpoints, also those that only `others` follow: a worker may register with one router only.

    `move_streams` moves this router's running streams off an address and returns how many it moved.
    """

    def __init__(
        self,
        fleet: Fleet,
        move_streams: Callable[[str], int],
        *,
        others: Others | None = None,
        move_again_s: float = _MOVE_AGAIN_S,
    ) -> None:
        self._others = others
        self._fleet = fleet
        self._move_streams = move_streams
        self._move_again_s = move_again_s

    async def drain(self, address: str, *, move_after_s: float | None, alone: bool = False) -> int:
        """Waits until nothing runs on the endpoint, and returns how many streams it moved.

        Streams that still run after `move_after_s` are moved; None moves none. The endpoint itself refuses new
        requests, so every router sees it; it goes on doing so if this call is cancelled. `alone`: does not tell the
        other routers, because one of them asks. Raises NotFound for an unknown address, and whatever the endpoint
        answers.
        """
        if self._others is None or alone:
            return await self._drain(address, move_after_s)
        request = pb.DrainEndpointRequest(address=address, move_after_s=move_after_s)
        if not self._follows(address):
            with _errors(address):
                theirs = await self._others.drain_theirs(request)
            if theirs is None:
                raise self._unknown(address)
            return theirs
        others = asyncio.ensure_future(self._others.drain(request))
        try:
            moved = await self._drain(address, move_after_s)
            await asyncio.wait((others,), timeout=_OTHERS_TIMEOUT_S)  # nothing runs now, so they end too
            return moved + (others.result() if others.done() else 0)
        finally:
            others.cancel()

    async def _drain(self, address: str, move_after_s: float | None) -> int:
        stub = _stub(self._find(address))
        moved = 0
        with _errors(address):
            draining = asyncio.ensure_future(stub.Drain(pb.DrainRequest()))
            try:
                pause_s = move_after_s
                while not (await asyncio.wait((draining,), timeout=pause_s))[0]:
                    moved += self._move_streams(address)
                    pause_s = self._move_again_s
                await draining
            finally:
                draining.cancel()
        return moved

    async def resume(self, address: str, *, alone: bool = False) -> None:
        """Takes the endpoint back into service, and waits until its report says so.

        `alone`: does not ask the other routers. Raises NotFound if it is unknown, or what the endpoint answers.
        """
        if self._others is not None and not alone and not self._follows(address):
            with _errors(address):
                found = await self._others.resume_theirs(address)
            if not found:
                raise self._unknown(address)
            return
        endpoint, changes = self._find(address), self._fleet.changes
        with _errors(address):
            await _stub(endpoint).Resume(pb.ResumeRequest(), timeout=_ANSWER_TIMEOUT_S)
        with suppress(TimeoutError):  # a report that is late changes nothing: the endpoint takes requests
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                while endpoint.last_report is not None and endpoint.last_report.state == _DRAINING:
                    await changes.wait_beyond(changes.version)

    def _find(self, address: str) -> Endpoint:
        try:
            return self._fleet.get(address)
        except KeyError:
            raise self._unknown(address) from None

    def _follows(self, address: str) -> bool:
        return any(endpoint.address == address for endpoint in self._fleet.endpoints)

    def _unknown(self, address: str) -> NotFound:
        known = ", ".join(endpoint.address for endpoint in self._fleet.endpoints) or "none"
        return NotFound(
            f"There is no endpoint '{address}'; available: {known}.",
            reason="ENDPOINT_NOT_FOUND",
            metadata={"endpoint": address},
            fields={"address": f"available: {known}"},
        )


def _stub(endpoint: Endpoint) -> pb_grpc.EndpointServiceStub:
    return pb_grpc.EndpointServiceStub(endpoint.channel)


@contextmanager
def _errors(address: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise operator_error(error, address) from error
