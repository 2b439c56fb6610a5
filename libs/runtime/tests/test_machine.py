"""What a process may use of the machine within a container's limits."""

import os
from pathlib import Path

import psutil
import pytest

from infermesh_runtime import machine


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1048576\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    return tmp_path


def test_an_unlimited_group_leaves_the_machine(cgroup: Path) -> None:
    assert machine.usable_processors(cgroup) == len(os.sched_getaffinity(0))
    assert machine.memory_total_bytes(cgroup) == psutil.virtual_memory().total
    assert not machine.memory_is_limited(cgroup)


def test_no_group_at_all_leaves_the_machine(tmp_path: Path) -> None:
    assert machine.usable_processors(tmp_path) == len(os.sched_getaffinity(0))
    assert machine.memory_total_bytes(tmp_path) == psutil.virtual_memory().total


def test_a_quota_bounds_the_processors(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("150000 100000\n")
    assert machine.usable_processors(cgroup) == 1


def test_less_than_one_processor_is_one(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("20000 100000\n")
    assert machine.usable_processors(cgroup) == 1


def test_a_memory_limit_bounds_total_and_available(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text(f"{64 << 20}\n")
    assert machine.memory_total_bytes(cgroup) == 64 << 20
    assert machine.memory_is_limited(cgroup)
    assert machine.memory_available_bytes(cgroup) == (64 << 20) - 1048576


def test_cached_files_count_as_available(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text(f"{64 << 20}\n")
    (cgroup / "memory.current").write_text(f"{40 << 20}\n")
    (cgroup / "memory.stat").write_text(f"anon 1000\ninactive_file {30 << 20}\nactive_file 5\n")
    assert machine.memory_available_bytes(cgroup) == 54 << 20


def test_a_group_over_its_limit_has_none_available(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("1024\n")
    assert machine.memory_available_bytes(cgroup) == 0


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Ultra 9\nprocessor\t: 1\nmodel name\t: Ultra 9\n")
    assert machine.processor_name(cpuinfo) == "Ultra 9"
    assert machine.processor_name(tmp_path / "none") == "CPU"
