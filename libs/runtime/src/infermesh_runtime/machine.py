"""Measures what this process may use of the machine: processors and memory, within its container's limits."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_processors(cgroup: Path = CGROUP) -> int:
    """Processors that the affinity mask and the control group's quota allow, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = _words(cgroup / "cpu.max")
    if len(quota) == 2 and quota[0] != "max":
        allowed = min(allowed, max(1, int(quota[0]) // int(quota[1])))
    return allowed


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The vendor's name of the processor; "CPU" if the system does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "CPU")


def memory_total_bytes(cgroup: Path = CGROUP) -> int:
    """The machine's memory, or the control group's limit if that is less."""
    return min(_installed_bytes(), _limit_bytes(cgroup))


def memory_is_limited(cgroup: Path = CGROUP) -> bool:
    """Whether the control group may use less memory than the machine has."""
    return _limit_bytes(cgroup) < _installed_bytes()


def memory_available_bytes(cgroup: Path = CGROUP) -> int:
    """Memory available without swapping, within the control group's limit.

    Cached pages of files that nothing has used lately count as available, because the kernel drops them first.
    """
    used = _words(cgroup / "memory.current")
    taken = max(0, int(used[0]) - _inactive_file_bytes(cgroup)) if used else 0
    in_group = _limit_bytes(cgroup) - taken
    return max(0, min(_available_bytes(), in_group))


def _installed_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """The kernel's estimate of memory available without swapping; without one, the free pages."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limit_bytes(cgroup: Path) -> int:
    limit = _words(cgroup / "memory.max")
    return int(limit[0]) if limit and limit[0] != "max" else _installed_bytes()


def _inactive_file_bytes(cgroup: Path) -> int:
    words = _words(cgroup / "memory.stat")
    return int(words[words.index("inactive_file") + 1]) if "inactive_file" in words else 0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
