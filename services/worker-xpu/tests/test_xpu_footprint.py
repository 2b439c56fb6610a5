"""The estimate of a model's memory knows how many ranks share it, and which device `auto` will find."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from infermesh_runtime.manifest.model_manifest import Manifest
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu.expected_kind import expected_kind, torch_build
from infermesh_worker_xpu.preflight import footprint
from infermesh_worker_xpu.settings import WorkerXpuSettings

SIZE = 8 << 30
PROCESS = 1 << 30
FILES = {
    "none": (),
    "nvidia": ("dev/nvidia0",),
    "amd": ("dev/kfd", "dev/dri/renderD128"),
    "intel": ("dev/dri/renderD128",),
}


@pytest.mark.parametrize(
    ("chosen", "experts", "expected"),
    [
        ({"device": "cpu"}, 0, PROCESS + 2 * SIZE),
        ({"device": "cpu:0+1"}, 0, 2 * PROCESS + 2 * SIZE),
        ({"device": "cpu:0+1"}, 8, 2 * PROCESS + 4 * SIZE),
        ({"device": "cpu"}, 8, PROCESS + 2 * SIZE),
        ({"device": "xpu:0+1+2", "numerics": "fast", "dtype": "bf16"}, 8, 3 * PROCESS + SIZE),
    ],
    ids=str,
)
def test_what_each_rank_holds_is_counted_for_each(
    chosen: dict[str, str], experts: int, expected: int, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps({"num_local_experts": experts, "num_experts_per_tok": 2}))
    manifest = Manifest(
        name="m",
        source="m",
        format="safetensors",
        context_length=64,
        eos_token_ids=(),
        bos_token_id=None,
        size_bytes=SIZE,
        created=datetime.now(UTC),
        files={},
    )
    settings = WorkerXpuSettings.model_validate({"numerics": "exact", **chosen})
    found = footprint(ModelFolder(tmp_path, manifest), settings)
    assert found is not None
    assert found.base_bytes == expected


@pytest.mark.parametrize(
    ("build", "files", "expected"),
    [
        ("cpu", "nvidia", "cpu"),
        ("cu130", "nvidia", "cuda"),
        ("cu130", "intel", "cpu"),
        ("rocm7.0", "amd", "cuda"),
        ("rocm7.0", "none", "cpu"),
        ("xpu", "intel", "xpu"),
        ("xpu", "none", "cpu"),
        ("xpu", "amd", None),
        ("mtia", "none", None),
        (None, "none", None),
    ],
)
def test_the_device_that_torch_will_find(build: str | None, files: str, expected: str | None, tmp_path: Path) -> None:
    for name in FILES[files]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    vendor = tmp_path / "sys/class/drm/renderD128/device/vendor"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("0x8086\n" if files == "intel" else "0x1002\n")
    assert expected_kind(build, tmp_path) == expected


def test_here_it_is_the_device_that_torch_finds() -> None:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    assert expected_kind(torch_build()) in {None, "cpu" if accelerator is None else accelerator.type}
