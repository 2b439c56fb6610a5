"""Writes a streamed answer; once all the rest of it has come, that goes out in few messages instead of one each."""

from collections.abc import Coroutine
from typing import Any

from google.api.httpbody_pb2 import HttpBody

MOST_HELD_BYTES = 32 << 10
"""More is written at once: far larger messages cost as much as their bytes, and keep the event loop busy."""


class TailWriter:
    """Writes to an RPC, each message at once, until `hold`. From then on it joins messages, until `flush`, or until
    `free` lets the next one go with all before it. It is a `Tail`.

    A message of a few tokens costs as much as one of a single token, and the rest of a short answer is often there all
    at once. Only parts of a text are joined: an answer whose first message has no content type is one of gRPC messages.
    """

    def __init__(self, context: Any) -> None:
        """`context`: of the RPC. Its `write` is looked up each time: after the first message it is gRPC's own."""
        self._context = context
        self._holds = False
        self._joins: bool | None = None
        """Whether messages are parts of a text; None before the first one."""
        self._content_type = ""
        self._held: list[bytes] = []
        self._held_bytes = 0

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
        if not self._held and not (self._holds and self._joins):
            written: Coroutine[Any, Any, None] = self._context.write(message)
            return written
        self._content_type = self._content_type or message.content_type
        self._held.append(message.data)
        self._held_bytes += len(message.data)
        return _nothing() if self._holds and self._held_bytes < MOST_HELD_BYTES else self._send()

    async def flush(self) -> None:
        """Sends what it holds, and holds nothing until the next `hold`."""
        self.free()
        if self._held:
            await self._send()

    def _send(self) -> Coroutine[Any, Any, None]:
        body = HttpBody(content_type=self._content_type, data=b"".join(self._held))
        self._held, self._held_bytes, self._content_type = [], 0, ""
        sent: Coroutine[Any, Any, None] = self._context.write(body)
        return sent


async def _nothing() -> None: ...
