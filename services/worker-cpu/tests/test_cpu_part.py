"""The part of the machine that a worker runs on is checked when its settings are read."""

import os

import pytest
from pydantic import ValidationError

from infermesh_worker_cpu.settings import WorkerCpuSettings


@pytest.mark.parametrize("part", ["", "0/1"])
def test_a_part_that_there_is(part: str) -> None:
    assert WorkerCpuSettings.model_validate({"cpu_part": part}).cpu_part == part


def test_one_that_there_is_not() -> None:
    processors = len(os.sched_getaffinity(0))
    with pytest.raises(ValidationError, match=f"the {processors} processors that may be used cannot be split among"):
        WorkerCpuSettings.model_validate({"cpu_part": "0/1024"})
    with pytest.raises(ValidationError, match="must be INDEX/COUNT, as in 0/2"):
        WorkerCpuSettings.model_validate({"cpu_part": "2/2"})
