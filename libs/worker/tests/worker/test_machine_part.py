"""Parts of a machine: nodes or cores for each of several CPU workers, their memory, and what they are bound to."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from infermesh_worker.device import binding
from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.device.machine_part import MachinePart, choose_part, parse_part
from infermesh_worker.device.topology import node_available_bytes, read_nodes
from infermesh_worker.device.worker_device import WorkerDevice

GIB = 1 << 30


def machine(root: Path, nodes: Mapping[int, str], siblings: Sequence[str] = ()) -> Path:
    """A /sys/devices/system with these nodes of 8 GiB, 3 of which are available, and these cores."""
    for number, processors in nodes.items():
        folder = root / "node" / f"node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{processors}\n")
        lines = {"MemTotal": 8, "MemFree": 1, "Inactive(file)": 2}
        (folder / "meminfo").write_text("".join(f"Node {number} {k}: {v << 20} kB\n" for k, v in lines.items()))
    for core in siblings:
        for processor in core.split(","):
            folder = root / "cpu" / f"cpu{processor}" / "topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(f"{core}\n")
    return root


def parts_of(
    root: Path, count: int, *, allowed: set[int], usable: int = 64, memory: int = 64 * GIB
) -> list[MachinePart]:
    nodes = read_nodes(allowed, root)
    return [choose_part(index, count, nodes, usable=usable, memory_bytes=memory) for index in range(count)]


def test_each_worker_gets_a_node(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: "0-1,4-5", 1: "2-3,6-7"}, ["0,4", "1,5", "2,6", "3,7"])
    first, second = parts_of(root, 2, allowed=set(range(8)))
    assert (first.processors, first.node, first.memory_bytes) == ((0, 1, 4, 5), 0, 8 * GIB)
    assert (second.processors, second.node, second.words) == ((2, 3, 6, 7), 1, "processors 2-3,6-7, NUMA node 1")
    assert node_available_bytes(1, root) == 3 * GIB
    assert parts_of(root, 1, allowed=set(range(8))) == [first]  # cpu:0 alone is the first node, not the machine


def test_workers_share_the_only_node_by_whole_cores(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: "0-7"}, ["0,4", "1,5", "2,6", "3,7"])
    first, second = parts_of(root, 2, allowed=set(range(8)))
    assert (first.processors, second.processors) == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert {first.memory_bytes, second.memory_bytes} == {4 * GIB}
    assert (first.node, first.words) == (None, "processors 0-1,4-5")
    of_three = parts_of(root, 3, allowed=set(range(8)))
    assert [part.processors for part in of_three] == [(0, 4), (1, 5), (2, 3, 6, 7)]
    assert sum(part.memory_bytes for part in of_three) <= 8 * GIB


def test_hyper_threads_of_one_core_are_told_apart_only_if_there_are_too_few_cores(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: "0-1"}, ["0,1"])
    assert [part.words for part in parts_of(root, 2, allowed={0, 1})] == ["processor 0", "processor 1"]
    with pytest.raises(ValueError, match="the 2 processors that may be used cannot be split among 3 workers"):
        parts_of(root, 3, allowed={0, 1})


def test_nodes_are_split_if_there_are_more_workers(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: "0-3", 1: "4-7"})
    four = parts_of(root, 4, allowed=set(range(8)))
    assert [(part.processors, part.node) for part in four] == [((0, 1), 0), ((2, 3), 0), ((4, 5), 1), ((6, 7), 1)]
    assert {part.memory_bytes for part in four} == {4 * GIB}


def test_what_a_container_may_use_is_what_is_split(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: "0-3", 1: "4-7", 2: ""}, ["0,1", "2,3", "4,5", "6,7"])
    first, second = parts_of(root, 2, allowed={2, 3, 4})
    assert (first.processors, second.processors) == ((2, 3), (4,))
    only = parts_of(root, 2, allowed={4, 5, 6, 7})
    assert [(part.processors, part.node) for part in only] == [((4, 5), None), ((6, 7), None)]
    limited = parts_of(root, 2, allowed=set(range(8)), usable=4, memory=4 * GIB)
    assert [part.processors for part in limited] == [(0, 2), (4, 6)]  # one processor of each core first
    assert {part.memory_bytes for part in limited} == {2 * GIB}


def test_a_limit_is_used_up_by_fewer_workers_than_nodes(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: "0-3", 1: "4-7"})
    (only,) = parts_of(root, 1, allowed=set(range(8)), usable=4, memory=6 * GIB)
    assert (only.processors, only.memory_bytes, only.node) == ((0, 1, 2, 3), 6 * GIB, 0)
    assert parts_of(root, 1, allowed=set(range(8)), usable=6)[0] == MachinePart((0, 1, 2, 3), 8 * GIB, 0)


@pytest.mark.parametrize("meminfo", ["Node 1 MemTotal: 0 kB\n", ""])
def test_nodes_without_memory_share_that_of_the_machine(tmp_path: Path, meminfo: str) -> None:
    root = machine(tmp_path, {0: "0-3", 1: "4-7"})
    (root / "node" / "node1" / "meminfo").write_text(meminfo)
    parts = parts_of(root, 2, allowed=set(range(8)), memory=10 * GIB)
    assert parts == [MachinePart((0, 1, 2, 3), 5 * GIB), MachinePart((4, 5, 6, 7), 5 * GIB)]
    assert parts_of(root, 1, allowed=set(range(8)))[0].node == 0  # it has memory, and nobody uses the other


def test_a_machine_that_names_no_nodes_is_one(tmp_path: Path) -> None:
    first, second = parts_of(tmp_path, 2, allowed={0, 1})
    assert (first.processors, second.processors, first.node) == ((0,), (1,), None)
    assert first.memory_bytes > 0


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "0/1025", "a/b", "0/2/3", "\u0661/2"])
def test_what_names_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be INDEX/COUNT"):
        parse_part(text)


def test_a_worker_counts_its_parts_memory() -> None:
    device = WorkerDevice(_no_probe, margin=0.5, part=MachinePart((0, 1), 4 * GIB))
    device.facts = DeviceFacts(
        kind="cpu", name="Xeon", memory_total_bytes=16 * GIB, memory_free_bytes=16 * GIB, runtime="x"
    )
    assert device.budget_bytes == 2 * GIB
    reported = device.reported(GIB, 0)
    assert reported is not None
    assert (reported.memory_total_bytes, reported.memory_free_bytes) == (4 * GIB, GIB)
    assert reported.name == "Xeon (processors 0-1)"


def test_threads_and_what_they_start_are_bound() -> None:
    processor = min(os.sched_getaffinity(0))
    code = f"""
import os, subprocess, sys, threading
from infermesh_worker.device.binding import bind
from infermesh_worker.device.machine_part import MachinePart
ready, done = threading.Event(), threading.Event()
threading.Thread(target=lambda: (ready.set(), done.wait())).start()
ready.wait()
bind(MachinePart(({processor},), 1 << 30, 0))
masks = {{str(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")}}
done.set()
print(masks, open("/proc/self/numa_maps").read().count("bind:0") > 0, flush=True)
subprocess.run([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    masks, child = run.stdout.splitlines()
    bound = "memory is not bound" not in run.stderr  # a container may lack the right
    assert masks.rpartition(" ") == (repr({str({processor})}), " ", str(bound))
    assert child == str({processor})


def test_memory_that_cannot_be_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert binding.bind_memory(1 << 12)  # no such node
    monkeypatch.setattr(binding, "_SET_MEMPOLICY", {})
    assert "is not known" in binding.bind_memory(0)


async def _no_probe() -> DeviceFacts:
    raise AssertionError
