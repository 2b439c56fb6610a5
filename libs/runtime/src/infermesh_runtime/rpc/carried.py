"""Stands in for gRPC's context of a call that came as messages on the stream of another call."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, Protocol

import grpc


class Carrier(Protocol):
    """What a carried call has from the call whose stream it came on."""

    guarded: bool

    def peer(self) -> str: ...

    def auth_context(self) -> Any: ...

    def invocation_metadata(self) -> Iterable[tuple[str, Any]] | None: ...


class CarriedCall:
    """The part of grpc.aio.ServicerContext that handlers and interceptor use. It has one request.

    Once the call has run, it has the call's status.
    """

    def __init__(
        self,
        carrier: Carrier,
        request: bytes,
        own_metadata: Iterable[tuple[str, Any]],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """`own_metadata` replaces the carrier's metadata of the same keys. `write` sends a response.

        Must be created in the event loop.
        """
        self.carrier = carrier
        self.write = write
        own = tuple(own_metadata)
        keys = {key for key, _ in own}
        self._metadata = (*own, *(pair for pair in carrier.invocation_metadata() or () if pair[0] not in keys))
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._deadline_s: float | None = None
        self._trailing: tuple[tuple[str, Any], ...] = ()
        self._code: grpc.StatusCode | None = None
        self._message = ""

    def set_timeout(self, timeout_s: float) -> None:
        """Sets when the call fails with DEADLINE_EXCEEDED, counted from now."""
        self._deadline_s = self._loop.time() + timeout_s

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None: it has none."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - self._loop.time())

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._metadata

    def peer(self) -> str:
        return self.carrier.peer()

    def auth_context(self) -> Any:
        return self.carrier.auth_context()

    async def read(self) -> bytes:
        """The request, once."""
        request, self._request = self._request, b""
        return request

    async def send_initial_metadata(self, initial_metadata: object) -> None:
        """Does nothing: a carried call has no metadata."""

    def code(self) -> grpc.StatusCode | None:
        """The status with which the call was aborted; None: it was not."""
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._trailing

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, Any]] = ()
    ) -> NoReturn:
        """Ends the call with a status. Raises AbortError, as gRPC's own does."""
        self._code, self._message, self._trailing = code, details, tuple(trailing_metadata)
        raise grpc.aio.AbortError("a carried call was aborted")


Carry = Callable[[str, grpc.RpcMethodHandler, CarriedCall], Awaitable[None]]
"""Runs a carried call of a method ("/package.Service/Method"), and raises only if the call is cancelled."""
