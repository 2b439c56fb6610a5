"""Wraps gRPC's context of a call so that it sends the request id back to the client."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from infermesh_runtime.background.tasks import is_cancelled
from infermesh_runtime.errors import Code, InfermeshError, Unavailable
from infermesh_runtime.rpc.carried import Carry
from infermesh_runtime.rpc.limits.body_budget import NO_BUDGET, Share

REQUEST_ID_KEY = "x-request-id"


class RpcContext:
    """gRPC's ServicerContext, which also sends the request id with the first message.

    After the first message `write` is gRPC's own, so later messages cost nothing extra.
    """

    def __init__(self, inner: grpc.aio.ServicerContext, request_id: str) -> None:
        self._inner = inner
        self._metadata: tuple[tuple[str, Any], ...] | None = None
        self.request_id = request_id
        self.guarded = False
        """Whether a guard let the call in, so that the mesh token it carries is the right one."""
        self.initial_metadata_sent = False
        self.interrupted = False
        """Whether the client, the deadline or the server's stop ended the handler."""
        self.body: Share = NO_BUDGET
        """What the request takes of the memory for requests. A handler that holds less than it was sent says so."""
        self.write = self._write_first
        self.task: asyncio.Task[Any] | None = None
        """The task that handles the call, while it runs."""
        self.carry: Carry
        """Runs calls that this one carries, as if they had come by themselves. A carried call cannot carry others."""
        self.on_end: Callable[[InfermeshError], None] | None = None
        """What `end` does instead of cancelling the task, for a handler that ends by itself."""
        self._ending: InfermeshError | None = None

    def end(self, error: InfermeshError) -> None:
        """Cancels the handler because of this server, not of its client: `ending` tells it why."""
        if self.on_end is not None:
            self.on_end(error)
        elif self.task is not None:
            self._ending = error
            self.task.cancel()

    def ending(self) -> InfermeshError | None:
        """What to tell the client after a CancelledError, which is then over; None if the client is gone or too late.

        A handler that has sent the beginning of a stream whose errors are events calls this; the interceptor does for
        all others.
        """
        error, self._ending = self._ending, None
        if error is not None and self.task is not None:
            return None if self.task.uncancel() else error
        if is_cancelled():
            return None
        # what it awaited was cancelled
        return Unavailable("The server cancelled this call before it finished. Retry.", reason="CALL_ABANDONED")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """The metadata that came with the call. gRPC makes it anew for everybody who asks."""
        if self._metadata is None:
            self._metadata = tuple(self._inner.invocation_metadata() or ())
        return self._metadata

    @property
    def status(self) -> Code:
        """The status the call ends with: the one it was set to or aborted with, or OK."""
        code = self._inner.code()
        return Code(code.value[0] if isinstance(code, grpc.StatusCode) else code or 0)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Sends the handler's metadata and the request id."""
        self.initial_metadata_sent = True
        await self._inner.send_initial_metadata((*initial_metadata, (REQUEST_ID_KEY, self.request_id)))

    async def ensure_initial_metadata(self) -> None:
        """Sends the request id unless metadata was already sent."""
        if not self.initial_metadata_sent:
            await self.send_initial_metadata(())

    async def _write_first(self, message: Any) -> None:
        await self.ensure_initial_metadata()
        self.write = self._inner.write
        await self._inner.write(message)
