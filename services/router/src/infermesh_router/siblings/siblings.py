"""Asks the other routers of this mesh, at their admin addresses. One that does not answer in time is left out."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from uuid import uuid4

import grpc

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.admin.v1.admin_pb2_grpc import AdminServiceStub, EndpointServiceStub
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh.mesh.v1.mesh_pb2_grpc import MeshServiceStub
from infermesh_router.siblings.merged_streams import merged
from infermesh_router.siblings.sibling_calls import metadata_about, sibling_metadata

T = TypeVar("T")
OpenChannel = Callable[[str], grpc.aio.Channel]
ANSWER_TIMEOUT_S = 1.0
"""How long a router that asks waits for another one, which may hang."""
REST_S = 5.0
"""How long one that did not answer in time is left out of what is only shown: else each view would wait for it."""
_RECONNECT_S = 1.0
_OWN = ""
"""This router, among the addresses of the others."""
_ANSWERS = frozenset({grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND})
_QUIET = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})

_log = logging.getLogger(__name__)


class Siblings:
    """The other routers. Used from one event loop."""

    def __init__(
        self,
        addresses: Sequence[str] = (),
        open_channel: OpenChannel = grpc.aio.insecure_channel,
        *,
        named: bool = False,
        at_least: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`addresses`: the admin addresses of those that are always there. `named`: others come and go by `set_named`.

        `at_least`: how many routers there are at least, this one included.
        """
        self.instance = uuid4().hex
        """By which the others know this router."""
        self._fixed = self._addresses = tuple(addresses)
        self._instances: dict[str, str] = {}
        """Address → the router that answers there, of those that were found by name."""
        self._named = named
        self._at_least = at_least
        self._changed = asyncio.Event()
        self._open_channel = open_channel
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._clock = clock
        self._rests_until_s: dict[str, float] = {}
        """Address → until when it is left out of what is only shown."""
        self._faults: dict[str, grpc.StatusCode] = {}
        """Address → the fault that was logged last, of those that still have it."""

    @property
    def none_ever(self) -> bool:
        """Whether there are no others, and none can come."""
        return not (self._fixed or self._named)

    @property
    def routers(self) -> int:
        """How many routers share what the mesh allows, this one included."""
        return max(self._at_least, 1 + len(self._addresses))

    @property
    def routers_here(self) -> int:
        """As `routers`, without those that were found by name: each of these has a container of its own."""
        return 1 + len(self._fixed) if self._named else self.routers

    def set_named(self, instances: Mapping[str, str]) -> None:
        """Replaces those that were found by name: address → the instance of the router there."""
        self._instances = dict(instances)
        found = (*self._fixed, *(address for address in instances if address not in self._fixed))
        if found != self._addresses:
            self._addresses = found
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def watch(self, address: str) -> AsyncGenerator[str, None]:
        """The instance of the router at the address; ends or raises AioRpcError when that router goes."""
        call = AdminServiceStub(self._channel(address)).WatchRouter(
            admin.WatchRouterRequest(), metadata=sibling_metadata()
        )
        try:
            async for told in call:
                yield told.instance
        finally:
            call.cancel()

    async def disconnect(self, address: str) -> None:
        """Closes the connection to an address that is no router's any more."""
        channel = self._channels.pop(address, None)
        self._faults.pop(address, None)
        self._rests_until_s.pop(address, None)
        if channel is not None:
            await channel.close(ANSWER_TIMEOUT_S)

    async def listings(self) -> list[admin.ListEndpointsResponse]:
        """What each knows of endpoints and queues."""
        return await self._ask(_list, shows=True)

    async def drain(self, request: admin.DrainEndpointRequest) -> int:
        """Has each drain an endpoint, which moves its own streams; returns how many they moved."""
        answers = await self._ask(
            lambda channel: AdminServiceStub(channel).DrainEndpoint(request, metadata=sibling_metadata())
        )
        return sum(answer.moved for answer in answers)

    async def drain_theirs(self, request: admin.DrainEndpointRequest) -> int | None:
        """As `drain`, by those alone that follow the endpoint; None: none does. Raises AioRpcError if one fails."""
        answers = await self._ask_followers(
            request.address,
            lambda channel: AdminServiceStub(channel).DrainEndpoint(request, metadata=sibling_metadata()),
        )
        return sum(answer.moved for answer in answers) if answers else None

    async def resume_theirs(self, address: str) -> bool:
        """Has those resume an endpoint that follow it; returns whether any does. Raises AioRpcError if one fails."""
        request = admin.ResumeEndpointRequest(address=address)
        answers = await self._ask_followers(
            address, lambda channel: AdminServiceStub(channel).ResumeEndpoint(request, metadata=sibling_metadata())
        )
        return bool(answers)

    async def forget(self, model: str, endpoint: str = "") -> bool:
        """Tells each that the model is to be loaded no longer, or not on that endpoint; returns whether one wanted it.

        One that did not want it answers NOT_FOUND.
        """
        request, metadata = admin.UnloadModelRequest(model=model), metadata_about(endpoint)
        answers = await self._ask(
            lambda channel: EndpointServiceStub(channel).UnloadModel(
                request, metadata=metadata, timeout=ANSWER_TIMEOUT_S
            )
        )
        return bool(answers)

    async def receipt(self, request_id: str, client: str | None) -> pb.Receipt | None:
        """The receipt of a request that another one carried. `client`: whose it must be; None: anybody's."""
        metadata = sibling_metadata(client=client)
        request = pb.GetReceiptRequest(request_id=request_id)
        found = await self._ask(
            lambda channel: MeshServiceStub(channel).GetReceipt(request, metadata=metadata, timeout=ANSWER_TIMEOUT_S),
            shows=True,
        )
        return found[0] if found else None

    async def receipts(self, limit: int, client: str | None) -> list[pb.Receipt]:
        """The newest receipts of each."""
        metadata = sibling_metadata(client=client)
        request = pb.ListReceiptsRequest(limit=limit)
        answers = await self._ask(
            lambda channel: MeshServiceStub(channel).ListReceipts(request, metadata=metadata, timeout=ANSWER_TIMEOUT_S),
            shows=True,
        )
        return [receipt for answer in answers for receipt in answer.receipts]

    def events(
        self, own: AsyncGenerator[bytes, None], positions: Mapping[str, int] | None = None, **viewer: object
    ) -> AsyncGenerator[bytes, None]:
        """This router's `own`, and the events of all that are there, without snapshots, until the stream is closed.

        `positions`: how far the listener has come, as who reads these events notes it. `viewer`: who asks. Raises what
        `own` raises.
        """
        positions = {} if positions is None else positions
        heard: set[str] = set()
        return merged(
            lambda: (_OWN, *self._addresses),
            lambda: self._changed,
            lambda source: own if source == _OWN else self._events(source, viewer, heard, positions),
        )

    async def _events(
        self, address: str, viewer: Mapping[str, object], heard: set[str], positions: Mapping[str, int]
    ) -> AsyncGenerator[bytes, None]:
        """The events of one, those after `positions`.

        `heard`: the routers whose kept events came, for those of an older version, which know no positions.
        """
        while True:
            router = self._instances.get(address, address)
            metadata = sibling_metadata(**viewer, kept=router not in heard, after={**positions})
            call = MeshServiceStub(self._channel(address)).WatchEvents(pb.WatchEventsRequest(), metadata=metadata)
            try:
                async for body in call:
                    heard.add(router)
                    yield body.data
            except grpc.aio.AioRpcError:
                pass
            finally:
                call.cancel()
            await asyncio.sleep(_RECONNECT_S)

    async def close(self) -> None:
        """Closes the connections."""
        channels = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(channel.close() for channel in channels))

    async def _ask(self, call: Callable[[grpc.aio.Channel], Awaitable[T]], *, shows: bool = False) -> list[T]:
        """The answers of those that answer. `shows`: what is only shown does not wait for one that was silent."""
        return [*(await self._ask_each(call, shows=shows)).values()]

    async def _ask_followers(self, endpoint: str, call: Callable[[grpc.aio.Channel], Awaitable[T]]) -> list[T]:
        """The answers of those that follow an endpoint. Raises the error of one that fails."""
        listings = await self._ask_each(_list)
        following = [
            address for address, listed in listings.items() if endpoint in {each.address for each in listed.endpoints}
        ]
        return await asyncio.gather(*(call(self._channel(address)) for address in following))

    async def _ask_each(self, call: Callable[[grpc.aio.Channel], Awaitable[T]], *, shows: bool = False) -> dict[str, T]:
        """As `_ask`, by address."""
        now_s = self._clock()
        asked = [each for each in self._addresses if not (shows and now_s < self._rests_until_s.get(each, now_s))]
        answers = await asyncio.gather(*(self._ask_one(address, call) for address in asked))
        return {address: answer for address, answer in zip(asked, answers, strict=True) if answer is not None}

    async def _ask_one(self, address: str, call: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T | None:
        try:
            answer = await call(self._channel(address))
        except grpc.aio.AioRpcError as error:
            self._note(address, error.code(), error.details() or "")
            return None
        self._note(address, grpc.StatusCode.OK)
        return answer

    def _note(self, address: str, code: grpc.StatusCode, details: str = "") -> None:
        """Remembers how a call ended, and logs what that changes."""
        if code in _ANSWERS:
            self._rests_until_s.pop(address, None)
            if self._faults.pop(address, None):
                _log.info("the router at %s answers again", address)
            return
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._rests_until_s[address] = self._clock() + REST_S
        if code not in _QUIET and self._faults.get(address) is not code:
            self._faults[address] = code
            _log.warning("the router at %s does not answer: %s", address, details)

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = self._open_channel(address)
        return self._channels[address]


def _list(channel: grpc.aio.Channel) -> Awaitable[admin.ListEndpointsResponse]:
    listed: Awaitable[admin.ListEndpointsResponse] = AdminServiceStub(channel).ListEndpoints(
        admin.ListEndpointsRequest(), metadata=sibling_metadata(), timeout=ANSWER_TIMEOUT_S
    )
    return listed
