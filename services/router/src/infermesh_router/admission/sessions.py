"""Owns which endpoint served each session last, for the newest sessions only. Knows no policy."""

from collections import OrderedDict


class Sessions:
    """Session id → address of the endpoint, at most `limit` of them, least recently used first out."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._addresses: OrderedDict[str, str] = OrderedDict()

    def find(self, session_id: str) -> str:
        """The endpoint that served the session last; "" when there is none."""
        return self._addresses.get(session_id, "") if session_id else ""

    def note(self, session_id: str, address: str) -> None:
        """The endpoint serves the session now."""
        if not session_id:
            return
        self._addresses[session_id] = address
        self._addresses.move_to_end(session_id)
        if len(self._addresses) > self._limit:
            self._addresses.popitem(last=False)
