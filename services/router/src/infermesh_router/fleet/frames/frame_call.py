"""A Generate call on a link: read, cancelled and failing as gRPC's own streams are.

Its reader takes a message when it is its turn, with all deltas that wait merged into it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from infermesh_router.fleet.frames import faults
from infermesh_router.fleet.frames.faults import MakeEnd
from infermesh_router.fleet.frames.turns import Turns
from infermesh_runtime.frames.merging import merge_deltas

MERGE_AT = 32
"""So many messages are merged even while the reader takes none, so that they take less memory."""
AT_ONCE = 2
"""So many messages of a call go without a turn: `started`, and what has its first token."""
MOST_UNREAD_BYTES = 16 << 20
"""So much may wait for a reader. Beyond it, the call ends; what waits is delivered, and the rest made anew."""


class FrameCall:
    """One call. Iterate over it for its messages, as bytes. One task at a time reads it.

    The link tells it by `put` and `end` what came; neither ever waits for the reader.
    """

    __slots__ = (
        "_abandon",
        "_at_once",
        "_behind",
        "_end",
        "_frame",
        "_loop",
        "_merge_at",
        "_messages",
        "_most_unread_bytes",
        "_queued",
        "_reader",
        "_timer",
        "_turns",
        "_unread_bytes",
    )

    def __init__(
        self,
        abandon: Callable[[], None],
        *,
        timeout_s: float | None = None,
        most_unread_bytes: int = MOST_UNREAD_BYTES,
        turns: Turns | None = None,
    ) -> None:
        """`abandon` tells the endpoint that nobody wants the rest. `turns`: those of all calls."""
        self._abandon = abandon
        self._messages: deque[bytes] = deque()
        self._merge_at = 2
        """With fewer messages, it is not worth it."""
        self._most_unread_bytes = most_unread_bytes
        self._unread_bytes = 0
        self._end: MakeEnd | None = None
        self._reader: asyncio.Future[None] | None = None
        self._turns = turns or Turns()
        self._queued = False
        """Whether it waits for its turn."""
        self._at_once = AT_ONCE
        self._frame = 0
        """Number of the latest frame."""
        self._behind = False
        """Whether messages of several frames wait, so that it is worth it to try to merge them."""
        self._loop = asyncio.get_running_loop()
        # The endpoint watches the time too, but may be the one that hangs.
        self._timer = None if timeout_s is None else self._loop.call_later(timeout_s, self._expire)

    def __aiter__(self) -> "FrameCall":
        return self

    async def __anext__(self) -> bytes:
        """The next message. Raises as gRPC: AioRpcError, or CancelledError after `cancel`; and InfermeshError."""
        if not self._messages or not self._may_go():
            await self._until_turn()
        if self._at_once:
            self._at_once -= 1
        elif self._behind:
            self._behind = False
            if len(self._messages) >= self._merge_at:
                self._merge()
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

    def put(self, message: bytes, frame: int = 0) -> None:
        """Another message has come, in the frame with this number. The reader is behind if earlier ones still wait."""
        behind = frame != self._frame and bool(self._messages)
        if behind:
            self._behind = True
        self._frame = frame
        self._messages.append(message)
        self._unread_bytes += len(message)
        if len(self._messages) >= max(MERGE_AT, self._merge_at):
            self._merge()
        too_many = self._unread_bytes - len(self._messages[0])  # one message alone may be of any size
        if too_many > self._most_unread_bytes:
            self._give_up(faults.unread(self._most_unread_bytes))
        if self._queued:
            if behind:
                self._turns.note_behind()
        elif self._reader is not None and self._may_go():
            self._wake()

    def go(self) -> bool:
        """Its turn has come. False if it needs it no longer."""
        self._queued = False
        wants = self._reader is not None and bool(self._messages)
        if wants:
            self._wake()
        return wants

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

    def _may_go(self) -> bool:
        """Whether the reader may take a message now; if not, `go` is called."""
        if self._at_once:
            return True
        if self._queued:  # as when it ended while it waited
            return False
        if self._turns.may_go():
            return True
        self._queued = True
        self._turns.wait(self)
        return False

    async def _until_turn(self) -> None:
        """Waits for a message and the turn to take it. Raises what the call ended with if there is none."""
        while True:
            if self._end is not None:
                if self._messages:
                    return
                raise self._end()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
            if self._messages:
                return

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
        self._merge_at = 2 * len(merged)
        self._unread_bytes = sum(map(len, merged))
