"""Remembers which endpoint served each session last, for the most recent sessions."""

from collections import OrderedDict


class Sessions:
    """Session id → address of the endpoint. Beyond `limit` sessions, the least recently served is forgotten."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._addresses: OrderedDict[str, str] = OrderedDict()

    def find(self, session_id: str) -> str:
        """The endpoint that served the session last; "" if none is known."""
        return self._addresses.get(session_id, "") if session_id else ""

    def note(self, session_id: str, address: str) -> None:
        """Records that the endpoint serves the session now."""
        if not session_id:
            return
        self._addresses[session_id] = address
        self._addresses.move_to_end(session_id)
        if len(self._addresses) > self._limit:
            self._addresses.popitem(last=False)
