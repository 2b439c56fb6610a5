"""The import of models of tensors, as a worker then builds them: folders, the compiled form on disk, refusals."""

import io
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from infermesh_client.model_import.importer import examine_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import BatchLimits
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_cpu.build import build
from infermesh_worker_cpu.front import footprint
from infermesh_worker_cpu.infer.compiling import CACHE
from infermesh_worker_cpu.settings import WorkerCpuSettings
from tests.tensor_models.onnx_models import WEIGHTS, import_tensors, linear, save, tensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "weights").mkdir()
    graph = linear(home / "m.onnx", save_as_external_data=True, location="weights/m.data", size_threshold=0)
    import_tensors(graph, home / "models", "m", max_batch=5, batch_delay_ms=2.0)
    return home / "models" / "m"


def built(folder: Path) -> BuiltExecutor:
    made = build({"folder": str(folder), "verify": "always", "numerics": "exact", "threads": 1})
    assert isinstance(made, BuiltExecutor)
    return made


def check(made: BuiltExecutor) -> None:
    x = np.ones((2, 4), np.float32)
    (outcome,) = made.executor.run([Item(tensors={"x": x})])
    assert isinstance(outcome, Result)
    assert np.allclose(outcome.tensors["y"], x @ WEIGHTS, rtol=1e-5)


def test_an_imported_folder_says_what_it_is_and_is_built(folder: Path) -> None:
    opened = ModelFolder.open(folder)
    opened.verify()
    manifest = opened.manifest
    assert (manifest.kind, manifest.format, manifest.context_length) == ("infer", "onnx", 0)
    assert [*manifest.files] == ["model/m.onnx", "model/weights/m.data"]
    assert manifest.batching == BatchLimits(max_size=5, max_delay_ms=2.0)
    made = built(folder)
    assert made.limits == manifest.batching
    assert (made.inputs, made.outputs) == (manifest.inputs, manifest.outputs)
    check(made)


def test_the_compiled_form_is_kept_and_a_damaged_one_is_not_used(folder: Path) -> None:
    built(folder)
    kept = [path for path in (folder / CACHE).rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"damaged" * 20)
    check(built(folder))
    ModelFolder.open(folder).verify()


def test_a_folder_that_cannot_be_written_is_built_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, **_how: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "touch", refuse)
    check(built(folder))


def test_its_memory_is_estimated_from_its_files(folder: Path) -> None:
    found = footprint(ModelFolder.open(folder), WorkerCpuSettings.model_validate({}))
    assert isinstance(found, Footprint)
    assert found.base_bytes > sum(path.stat().st_size for path in (folder / "model").rglob("*") if path.is_file())
    assert found.kv_wanted_bytes == 0


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    graph = linear(tmp_path / "m.onnx")
    graph.write_bytes(graph.read_bytes()[:-20])
    with pytest.raises(InvalidArgument, match=r"m\.onnx"):
        import_tensors(graph, tmp_path / "models", "m")
    assert not (tmp_path / "models").exists()


def test_a_dry_run_says_what_would_be_imported(tmp_path: Path) -> None:
    graph = linear(tmp_path / "m.onnx")
    lines = examine_model(str(graph), tmp_path / "models", ProgressView(Console(file=io.StringIO())))
    assert "takes: x FP32 [?, 4]" in lines
    assert not (tmp_path / "models").exists()


def test_tensors_keep_their_names_when_casts_beside_them_are_left_out(tmp_path: Path) -> None:
    """As in models that were converted to 16 bits, but take and give 32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a_much_longer_name"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["a_much_longer_name", "w"], ["another_longer_name"]),
        helper.make_node("Cast", ["another_longer_name"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = numpy_helper.from_array(WEIGHTS.astype(np.float16), "w")
    graph = save(tmp_path / "m.onnx", nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 3])], weights)
    manifest = import_tensors(graph, tmp_path / "models", "m")
    options = {"folder": str(tmp_path / "models" / "m"), "verify": "never", "numerics": "fast", "threads": 1}
    for _ in range(2):  # compiled, and from the compiled form on disk
        made = build(options)
        assert isinstance(made, BuiltExecutor)
        assert (made.inputs, made.outputs) == (manifest.inputs, manifest.outputs)
        (outcome,) = made.executor.run([Item(tensors={"x": np.ones((2, 4), np.float32)})])
        assert isinstance(outcome, Result)
        assert np.allclose(outcome.tensors["y"], np.ones((2, 4)) @ WEIGHTS, atol=0.02)
