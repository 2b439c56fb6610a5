"""Remembers on which endpoints a request failed before its first token, and which of them it may go to once more."""

from collections.abc import Callable

from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.fleet.faults import (
    CONNECT_TIMEOUT,
    ENDPOINT_STOPPED,
    FIRST_TOKEN_TIMEOUT,
    STREAM_CUT,
    Verdict,
    judge,
)
from infermesh_runtime.errors import InfermeshError

_GONE = frozenset({STREAM_CUT, ENDPOINT_STOPPED, CONNECT_TIMEOUT, FIRST_TOKEN_TIMEOUT})
"""The endpoint did not answer, and may be back at once."""
_AVOID_S = 0.05


class LostEndpoints:
    """The endpoints on which one request failed.

    One that failed is not asked again. One that went away, or took no requests, may be asked once more, at the earliest
    50 ms later: it may be back, while the endpoint that got the request instead is gone.
    """

    def __init__(self, wake_later: Callable[[float], None], *, clock: Callable[[], float]) -> None:
        """`wake_later` is told in how many seconds an endpoint may be asked again."""
        self._wake_later = wake_later
        self._clock = clock
        self._again: dict[str, float] = {}
        """Those that may be asked once more, and from when on."""
        self._never: set[str] = set()

    def note(self, address: str, error: InfermeshError) -> None:
        """The request failed there."""
        is_gone = error.reason in _GONE or judge(error) is Verdict.LEAVE
        if is_gone and address not in self._again.keys() | self._never:
            self._again[address] = self._clock() + _AVOID_S
            self._wake_later(_AVOID_S)
        else:
            self._again.pop(address, None)
            self._never.add(address)

    def avoid(self, pending: PendingCall) -> frozenset[str]:
        """The endpoints that the request must not go to yet, or never. It waits in the queue for the former."""
        pending.lost_endpoint = bool(self._again)
        pending.avoided_until_s = dict(self._again)
        return frozenset(self._never | self._again.keys())
