"""Owns what a handler sees of its call: gRPC's own context, which also sends the request id back. Knows no service."""

from typing import Any

import grpc

from infermesh_runtime.errors import Code

REQUEST_ID_KEY = "x-request-id"


class RpcContext:
    """gRPC's ServicerContext, which sends the request id with the first message.

    After that, `write` is gRPC's own: messages cost nothing extra.
    """

    def __init__(self, inner: grpc.aio.ServicerContext, request_id: str) -> None:
        self._inner = inner
        self.request_id = request_id
        self.initial_metadata_sent = False
        self.interrupted = False
        """Whether the handler was ended by its client, its deadline or the server's stop."""
        self.write = self._write_first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def status(self) -> Code:
        """The status the call ends with: what was set or aborted with, else OK."""
        code = self._inner.code()
        return Code(code.value[0] if isinstance(code, grpc.StatusCode) else code or 0)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Sends the handler's metadata and the request id."""
        self.initial_metadata_sent = True
        await self._inner.send_initial_metadata((*initial_metadata, (REQUEST_ID_KEY, self.request_id)))

    async def ensure_initial_metadata(self) -> None:
        """Sends the request id, unless it was sent with earlier metadata."""
        if not self.initial_metadata_sent:
            await self.send_initial_metadata(())

    async def _write_first(self, message: Any) -> None:
        await self.ensure_initial_metadata()
        self.write = self._inner.write
        await self._inner.write(message)
