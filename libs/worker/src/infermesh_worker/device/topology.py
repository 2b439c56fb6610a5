"""Reads how the machine is built: its NUMA nodes, their memory, and which processors share a core."""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from infermesh_runtime import machine

SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class NumaNode:
    """Processors with memory of their own."""

    number: int
    cores: tuple[tuple[int, ...], ...]
    """Its cores that this process may use: for each, the numbers of its processors (hyper-threads), ascending."""
    memory_bytes: int
    """All of its memory, whoever uses it."""


def read_nodes(allowed: Set[int], system: Path = SYSTEM) -> tuple[NumaNode, ...]:
    """The nodes with processors among `allowed`, ascending. A system that names no nodes is one node."""
    folders = sorted((system / "node").glob("node[0-9]*"), key=_number)
    nodes = tuple(
        NumaNode(_number(folder), _cores(here, system), node_bytes(folder, "MemTotal"))
        for folder in folders
        if (here := allowed & set(parse_list(_text(folder / "cpulist"))))
    )
    return nodes or (NumaNode(0, _cores(allowed, system), machine.memory_total_bytes()),)


def node_available_bytes(node: int, system: Path = SYSTEM) -> int:
    """Memory of a node that is free, or that files hold which nothing has used lately."""
    folder = system / "node" / f"node{node}"
    return node_bytes(folder, "MemFree") + node_bytes(folder, "Inactive(file)")


def node_bytes(folder: Path, name: str) -> int:
    """A value of a node's meminfo, whose lines read "Node 0 MemTotal: 4 kB"; 0 if it is not there."""
    for line in _text(folder / "meminfo").splitlines():
        words = line.split()
        if words[2:3] == [f"{name}:"]:
            return int(words[3]) * 1024
    return 0


def parse_list(text: str) -> list[int]:
    """The numbers of a list as the kernel writes it: "0-3,8"."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _cores(processors: Set[int], system: Path) -> tuple[tuple[int, ...], ...]:
    cores: dict[tuple[int, ...], None] = {}
    for processor in sorted(processors):
        siblings = parse_list(_text(system / "cpu" / f"cpu{processor}" / "topology" / "thread_siblings_list"))
        core = tuple(sorted(processors & {processor, *siblings}))
        cores[core] = None
    return tuple(cores)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("node"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
