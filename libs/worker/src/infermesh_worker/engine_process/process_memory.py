"""How much memory an engine process holds, and giving back to the system what it no longer uses."""

import ctypes

import psutil

from infermesh_engine.runners.runner import RunnerInfo

_DEVICE_CONTEXT_BYTES = 512 << 20
"""Estimate of what a process takes on an accelerator besides weights and KV cache: its context, a step's work space."""


def give_back_memory() -> None:
    """Returns free heap memory to the system after a burst: tens of MB, in a few milliseconds at most."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)


def memory_bytes(info: RunnerInfo) -> int:
    """Memory that the built model holds: the runner's own figure if it has one, otherwise an estimate.

    On the CPU the estimate adds the KV cache to the resident memory, because pages of the cache that were never written
    are not resident yet.
    """
    if info.memory_bytes:
        return info.memory_bytes
    if info.device_kind == "cpu":
        return psutil.Process().memory_info().rss + info.kv_cache_bytes
    return info.weights_bytes + info.kv_cache_bytes + _DEVICE_CONTEXT_BYTES
