"""Which models of tensors the front of worker-xpu lists, and how much memory it expects them to take."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infermesh_runtime.manifest.model_manifest import FileEntry, Manifest, ModelFormat, write_manifest
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu import preflight
from infermesh_worker_xpu.settings import WorkerXpuSettings

SIZE = 1000


def footprint(folder: Path, model_format: ModelFormat, **more: Any) -> Footprint | None:
    manifest = Manifest(
        name="m",
        source="m",
        format=model_format,
        kind="infer",
        context_length=0,
        eos_token_ids=(),
        bos_token_id=None,
        size_bytes=SIZE,
        created=datetime.now(UTC),
        files={"model/m": FileEntry(size_bytes=SIZE, sha256="0" * 64)},
        **more,
    )
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "m").write_bytes(bytes(SIZE))
    write_manifest(folder, manifest)
    return preflight.footprint(ModelFolder.open(folder), WorkerXpuSettings.model_validate({}))


def test_programs_of_torch_are_listed(tmp_path: Path) -> None:
    for model_format in ("pt2", "torchscript"):
        found = footprint(tmp_path, model_format)
        assert found is not None
        assert (found.base_bytes > SIZE, found.kv_wanted_bytes) == (True, 0)


def test_onnx_is_listed_where_onnxruntime_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for installed in (True, False):
        monkeypatch.setattr(preflight, "has_onnxruntime", lambda installed=installed: installed)
        assert (footprint(tmp_path, "onnx") is not None) == installed


def test_what_torch_cannot_run_is_left_out(tmp_path: Path) -> None:
    assert footprint(tmp_path, "tflite") is None
    assert footprint(tmp_path, "pt2", not_for=("torch",)) is None
