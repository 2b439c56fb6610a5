"""The memory of queues of routers side by side: what they share is divided, and what is one's own is not."""

from pathlib import Path

import pytest

from infermesh_router.admission.queue_memory import queue_memory
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.machine import memory_total_bytes

GIB = 1 << 30


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The control group of a container that may use 64 MiB."""
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    return tmp_path


@pytest.fixture
def unlimited(tmp_path: Path) -> Path:
    return tmp_path / "none"


def found_by_name(*, listed: int = 0) -> Siblings:
    siblings = Siblings([f"unix:/{number}" for number in range(listed)], named=True)
    siblings.set_named({"10.0.0.1:8084": "one", "10.0.0.2:8084": "two"})
    return siblings


def test_a_containers_own_memory_is_not_divided(container: Path) -> None:
    assert queue_memory(None, found_by_name(), container)() == 16 << 20
    assert queue_memory(None, found_by_name(listed=1), container)() == 8 << 20


def test_routers_of_one_container_or_machine_share_its_memory(container: Path, unlimited: Path) -> None:
    listed = Siblings(["unix:/s"], at_least=2)
    assert queue_memory(None, listed, container)() == 8 << 20
    assert queue_memory(None, listed, unlimited)() == memory_total_bytes(unlimited) // 8
    assert queue_memory(None, found_by_name(), unlimited)() == memory_total_bytes(unlimited) // 4 // 3


def test_what_is_set_is_for_all_of_them(container: Path) -> None:
    siblings = found_by_name()
    most = queue_memory(GIB, siblings, container)
    assert most() == GIB // 3
    siblings.set_named({})
    assert most() == GIB
