"""Divides a fixed range of bytes into spans: first fit, and neighbours that are free become one. Pure."""

from bisect import bisect_left, insort

ALIGNMENT_BYTES = 64
"""Every span begins at a multiple of it: the width of a cache line and of the widest vector registers."""


class Space:
    """Free and taken spans of the bytes from 0 to `size_bytes`. First fit keeps what is taken near the beginning."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._free: list[tuple[int, int]] = [(0, size_bytes)] if size_bytes else []
        """(begin, end) of each free span, ascending; never two that touch."""
        self._taken: dict[int, int] = {}
        """Begin → end."""

    @property
    def taken(self) -> int:
        """How many spans are taken."""
        return len(self._taken)

    def allocate(self, size_bytes: int) -> int | None:
        """Where a free span of at least `size_bytes` begins, which is then taken; None: there is none."""
        rounded = max(1, -(-size_bytes // ALIGNMENT_BYTES)) * ALIGNMENT_BYTES
        for index, (begin, end) in enumerate(self._free):
            if begin + rounded <= end:
                self._free[index : index + 1] = [(begin + rounded, end)] if begin + rounded < end else []
                self._taken[begin] = begin + rounded
                return begin
        return None

    def free(self, begin: int) -> None:
        """Frees the span that begins there. Raises KeyError if none does."""
        end = self._taken.pop(begin)
        index = bisect_left(self._free, (begin, end))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == begin:
            begin = self._free.pop(index - 1)[0]
        insort(self._free, (begin, end))
