"""Chooses the part of the machine that one of several CPU workers runs on: a NUMA node, or some cores of one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh_runtime import machine
from infermesh_worker.device.topology import SYSTEM, NumaNode, node_available_bytes, read_nodes

MOST_PARTS = 1024


@dataclass(frozen=True, slots=True)
class MachinePart:
    """Processors and memory of one worker."""

    processors: tuple[int, ...]
    """Ascending numbers."""
    memory_bytes: int
    """Its share of the memory: that of its node, divided among the workers on it."""
    node: int | None = None
    """The NUMA node that its memory comes from; None: the machine has only one, or one of them no memory."""

    @property
    def words(self) -> str:
        """What it is, as people read it: "processors 0-3, NUMA node 1"."""
        where = "" if self.node is None else f", NUMA node {self.node}"
        return f"processor{'s' if len(self.processors) > 1 else ''} {_ranges(self.processors)}{where}"

    def available_bytes(self) -> int:
        """Memory that is free now where this part's memory comes from."""
        free = machine.memory_available_bytes()
        return free if self.node is None else min(free, node_available_bytes(self.node))


def parse_part(text: str) -> tuple[int, int]:
    """Reads "INDEX/COUNT". Raises ValueError."""
    words = text.split("/")
    if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) <= 4 for word in words):
        index, count = map(int, words)
        if index < count <= MOST_PARTS:
            return index, count
    raise ValueError(f"must be INDEX/COUNT, as in 0/2, with INDEX below COUNT and COUNT at most {MOST_PARTS}")


def find_part(text: str, system: Path = SYSTEM, cgroup: Path = machine.CGROUP) -> MachinePart:
    """The part of this machine that "INDEX/COUNT" names. Raises ValueError if there are too few processors."""
    index, count = parse_part(text)
    nodes = read_nodes(os.sched_getaffinity(0), system)
    return choose_part(
        index,
        count,
        nodes,
        usable=machine.usable_processors(cgroup),
        memory_bytes=machine.memory_total_bytes(cgroup),
    )


def choose_part(index: int, count: int, nodes: Sequence[NumaNode], *, usable: int, memory_bytes: int) -> MachinePart:
    """Part `index` of `count`. Raises ValueError if there are too few processors.

    With as many nodes as parts or more, it is the node of that place; else each node is split between neighbouring
    parts, by whole cores where there are enough. `usable`: as many processors as this process may keep busy;
    `memory_bytes`: memory that all parts together may take.
    """
    parts = max(count, len(nodes))
    places = [part * len(nodes) // parts for part in range(parts)]
    node, sharers = nodes[places[index]], places.count(places[index])
    processors = _split(node, index - places.index(places[index]), sharers)
    most = max(1, usable // count)
    processors = tuple(sorted(processors[:most] if usable < _count(nodes) else processors))
    if not processors:
        raise ValueError(f"the {_count(nodes)} processors that may be used cannot be split among {count} workers")
    used = [nodes[place] for place in dict.fromkeys(places[:count])]
    if not all(each.memory_bytes for each in used):  # one has none of its own, or the system does not tell
        return MachinePart(processors, memory_bytes // count)
    share = min(1.0, memory_bytes / sum(each.memory_bytes for each in used))
    return MachinePart(processors, int(node.memory_bytes * share) // sharers, node.number if len(nodes) > 1 else None)


def _split(node: NumaNode, place: int, sharers: int) -> tuple[int, ...]:
    """Its processors, one of each core before the second ones."""
    cores = node.cores if len(node.cores) >= sharers else tuple((each,) for core in node.cores for each in core)
    mine = cores[place * len(cores) // sharers : (place + 1) * len(cores) // sharers]
    return tuple(sorted((each for core in mine for each in core), key=lambda each: _rank(each, mine)))


def _rank(processor: int, cores: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    core = next(core for core in cores if processor in core)
    return core.index(processor), processor


def _count(nodes: Sequence[NumaNode]) -> int:
    return sum(len(core) for node in nodes for core in node.cores)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as the kernel writes them: "0-3,8"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
