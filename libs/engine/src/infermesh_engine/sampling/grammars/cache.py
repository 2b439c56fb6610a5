"""Keeps compiled grammars by their format, bounded by the bytes that they hold, least recently used first out."""

from collections import OrderedDict
from typing import TYPE_CHECKING

from infermesh_engine.requests.request import OutputFormat

if TYPE_CHECKING:
    from llguidance import LLMatcher

DEFAULT_CACHE_BYTES = 64 << 20

_LEAST_BYTES = 256 << 10
"""What a grammar counts at least: llguidance adds states to it while it is used."""
_BYTES_PER_SPEC_BYTE = 64
"""Counted for each byte of a spec when nobody has measured: 1 MB of alternatives in Lark took 65 MB."""


class GrammarCache:
    """Compiled grammars. The newest one always stays, however large it is."""

    def __init__(self, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._entries: OrderedDict[OutputFormat, tuple[LLMatcher, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, output_format: OutputFormat) -> bool:
        return output_format in self._entries

    @property
    def held_bytes(self) -> int:
        """What the grammars count together."""
        return self._held_bytes

    def get(self, output_format: OutputFormat) -> "LLMatcher | None":
        """The compiled grammar, which is now the most recently used one."""
        entry = self._entries.get(output_format)
        if entry is None:
            return None
        self._entries.move_to_end(output_format)
        return entry[0]

    def add(self, output_format: OutputFormat, matcher: "LLMatcher", measured_bytes: int | None = None) -> None:
        """Keeps a grammar and drops others to make room. `measured_bytes`: what it holds; None: estimated."""
        self._drop(output_format)
        size_bytes = measured_bytes
        if size_bytes is None:
            size_bytes = _BYTES_PER_SPEC_BYTE * len(output_format.spec)
        size_bytes = max(size_bytes, _LEAST_BYTES)
        self._entries[output_format] = (matcher, size_bytes)
        self._held_bytes += size_bytes
        while self._held_bytes > self._max_bytes and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def _drop(self, output_format: OutputFormat) -> None:
        entry = self._entries.pop(output_format, None)
        if entry is not None:
            self._held_bytes -= entry[1]
