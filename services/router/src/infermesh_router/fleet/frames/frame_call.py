"""A Generate call on a link: read, cancelled and failing as gRPC's own streams are."""

import asyncio
from collections import deque
from collections.abc import Callable

from infermesh_router.fleet.frames import faults
from infermesh_router.fleet.frames.faults import MakeEnd
from infermesh_runtime.frames.merging import merge_deltas

MERGE_AT = 32
"""So many messages that wait for their reader are merged: it is behind, and fewer messages cost it less."""
MOST_UNREAD_BYTES = 16 << 20
"""So much may wait for a reader. Beyond it, the call ends; what waits is delivered, and the rest made anew."""


class FrameCall:
    """One call. Iterate over it for its messages, as bytes. One task at a time reads it.

    The link tells it by `put` and `end` what came; neither ever waits for the reader.
    """

    __slots__ = (
        "_abandon",
        "_end",
        "_loop",
        "_merge_at",
        "_messages",
        "_most_unread_bytes",
        "_reader",
        "_timer",
        "_unread_bytes",
    )

    def __init__(
        self,
        abandon: Callable[[], None],
        *,
        timeout_s: float | None = None,
        most_unread_bytes: int = MOST_UNREAD_BYTES,
    ) -> None:
        """`abandon` tells the endpoint that nobody wants the rest."""
        self._abandon = abandon
        self._messages: deque[bytes] = deque()
        self._merge_at = MERGE_AT
        self._most_unread_bytes = most_unread_bytes
        self._unread_bytes = 0
        self._end: MakeEnd | None = None
        self._reader: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        # The endpoint watches the time too, but may be the one that hangs.
        self._timer = None if timeout_s is None else self._loop.call_later(timeout_s, self._expire)

    def __aiter__(self) -> "FrameCall":
        return self

    async def __anext__(self) -> bytes:
        """The next message. Raises as gRPC: AioRpcError, or CancelledError after `cancel`; and InfermeshError."""
        while not self._messages:
            if self._end is not None:
                raise self._end()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
        message = self._messages.popleft()
        self._unread_bytes -= len(message)
        return message

    @property
    def is_complete(self) -> bool:
        """Whether its last message has come, and no error."""
        return self._end is faults.complete

    async def wait_for_connection(self) -> None:
        """Returns at once, as a link that carries calls is connected. Raises if the call has failed."""
        if self._end is not None and self._end is not faults.complete:
            raise self._end()

    def put(self, message: bytes) -> None:
        """Another message has come."""
        self._messages.append(message)
        self._unread_bytes += len(message)
        if len(self._messages) >= self._merge_at:
            self._merge()
        behind = self._unread_bytes - len(self._messages[0])  # one message alone may be of any size
        if behind > self._most_unread_bytes:
            self._give_up(faults.unread(self._most_unread_bytes))
        self._wake()

    def end(self, make_end: MakeEnd) -> None:
        """Nothing more comes. The reader gets what is there, and then what `make_end` makes."""
        if self._end is None:
            self._end = make_end
            if self._timer is not None:
                self._timer.cancel()
            self._wake()

    def cancel(self) -> bool:
        """Ends the call from here; what waits is dropped. False if it had ended."""
        if self._end is not None:
            return False
        self._messages.clear()
        reader, self._reader = self._reader, None
        self.end(faults.cancelled)
        if reader is not None:
            reader.cancel()
        self._abandon()
        return True

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(None)

    def _expire(self) -> None:
        self._give_up(faults.out_of_time())

    def _give_up(self, make_end: MakeEnd) -> None:
        if self._end is None:
            self.end(make_end)
            self._abandon()

    def _merge(self) -> None:
        merged = merge_deltas(self._messages)
        self._messages = deque(merged)
        # Twice what could not be merged, as of many choices, so that looking at all costs little a message.
        self._merge_at = max(self._merge_at, 2 * len(merged))
        self._unread_bytes = sum(map(len, merged))
