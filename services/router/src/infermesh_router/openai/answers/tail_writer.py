"""Writes a streamed answer; once all the rest of it has come, that goes out in one message instead of several."""

from collections.abc import Coroutine
from typing import Any

from google.api.httpbody_pb2 import HttpBody


class TailWriter:
    """Writes to an RPC, each message at once, until `hold`. What it holds goes out with the first write after `free`,
    or with `flush`.

    A message costs the same however long it is, and the rest of a short answer is often there all at once. Only parts
    of a text are joined: an answer whose first message has no content type is one of gRPC messages, which stay apart.
    """

    def __init__(self, context: Any) -> None:
        """`context`: of the RPC. Its `write` is looked up each time: after the first message it is gRPC's own."""
        self._context = context
        self._holds = False
        self._joins: bool | None = None
        """Whether messages are parts of a text; None before the first one."""
        self._held: HttpBody | None = None

    def hold(self) -> None:
        """From now on messages wait: the rest of the answer is here, so that nobody waits for them long."""
        self._holds = True

    def free(self) -> None:
        """The next message is the last one, or one that may not wait."""
        self._holds = False

    def write(self, message: HttpBody) -> Coroutine[Any, Any, None]:
        """Sends a message, after those that it holds; or holds it too."""
        if self._joins is None:
            self._joins = bool(message.content_type)
        if self._held is not None:
            self._held.data += message.data
            message = self._held
        if self._holds and self._joins:
            self._held = message
            return _nothing()
        self._held = None
        written: Coroutine[Any, Any, None] = self._context.write(message)
        return written

    async def flush(self) -> None:
        """Sends what it holds, of an answer that has no message for its end."""
        self.free()
        if self._held is not None:
            held, self._held = self._held, None
            await self._context.write(held)


async def _nothing() -> None: ...
