"""Counts how often something large is in memory at once."""

import tracemalloc
from collections.abc import Callable


def copies_during(size_bytes: int, work: Callable[[], object]) -> float:
    """How often so many bytes were there at the same time, at the most, beside those before; and the result."""
    tracemalloc.start()
    try:
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak / size_bytes
