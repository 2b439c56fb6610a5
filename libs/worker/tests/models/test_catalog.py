"""The catalog follows the model folders as they come and go."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infermesh_runtime.errors import ModelNotFound
from infermesh_runtime.manifest.model_manifest import read_manifest
from infermesh_worker.models.catalog import CatalogEntry, FolderCatalog
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder, find_model
from infermesh_worker.testing.simulated_engine import build_tokenizer

MANIFEST = {
    "schema": 1,
    "source": "here",
    "format": "gguf",
    "context_length": 64,
    "eos_token_ids": [256],
    "bos_token_id": None,
    "size_bytes": 10,
    "created": "2026-01-02T00:00:00Z",
    "files": {},
}


def make_folder(root: Path, name: str, **changes: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "infermesh.json").write_text(json.dumps(MANIFEST | {"name": name} | changes))
    return folder


def catalog_of(root: Path, *, takes_images: bool = False) -> FolderCatalog:
    def footprint(folder: ModelFolder) -> Footprint | None:
        return Footprint(base_bytes=5) if folder.manifest.format == "gguf" else None

    return FolderCatalog(root, {"threads": 3}, footprint, takes_images=takes_images)


def test_images_are_taken_where_the_model_and_the_worker_take_them(tmp_path: Path) -> None:
    facts = {"layout": {"type": "whole", "tokens": 4}, "written": "<|im_start|>", "seen": "<|im_end|>"}
    make_folder(tmp_path, "sees", images=facts)
    make_folder(tmp_path, "reads")
    for taken in (False, True):
        catalog = catalog_of(tmp_path, takes_images=taken)
        entries = catalog.entries()
        assert (entries["sees"].takes_images, entries["reads"].takes_images) == (taken, False)
        assert (catalog.open("sees").images is not None) == taken
        assert catalog.open("reads").images is None
    assert catalog_of(tmp_path).open("sees").why_no_images == "this model takes images on worker-xpu alone"


def test_catalog_follows_the_folders(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "models")
    assert catalog.entries() == {}
    make_folder(tmp_path / "models", "a")
    make_folder(tmp_path / "models", "other-format", format="safetensors")
    entries = catalog.entries()
    expected = CatalogEntry(
        name="a",
        size_bytes=10,
        context_length=64,
        footprint=Footprint(base_bytes=5),
        created=datetime(2026, 1, 2, tzinfo=UTC),
        has_chat_template=False,
    )
    assert entries == {"a": expected}
    shutil.rmtree(tmp_path / "models" / "a")
    assert catalog.entries() == {}
    with pytest.raises(ModelNotFound):
        catalog.open("a")


def test_catalog_takes_a_folder_once_its_files_are_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"model.gguf": {"size_bytes": 4, "sha256": "0" * 64}}
    folder = make_folder(tmp_path, "a", files=files)
    catalog = catalog_of(tmp_path)
    for _ in range(3):
        assert catalog.entries() == {}
    assert [record.message for record in caplog.records] == ["model left out"]
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert list(catalog.entries()) == ["a"]


def test_opened_model_has_its_folder_among_the_options(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "a")
    opened = catalog_of(tmp_path).open("a")
    assert opened.name == "a"
    assert opened.build_options == {
        "threads": 3,
        "folder": str(folder),
        "identity": read_manifest(folder).identity,
    }


def test_models_of_kinds_that_are_not_hosted_are_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path, "words")
    tensors = {"kind": "infer", "context_length": 0, "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 4]}]}
    (make_folder(tmp_path, "tensors", **tensors) / "tokenizer.json").unlink()
    assert [*catalog_of(tmp_path).entries()] == ["words"]
    hosting = FolderCatalog(tmp_path, {}, lambda _folder: Footprint(base_bytes=5), ("generate", "infer"))
    entry = hosting.entries()["tensors"]
    assert (entry.kind, [spec.shape for spec in entry.inputs]) == ("infer", [(-1, 4)])
    opened = hosting.open("tensors")
    assert (opened.kind, opened.inputs, opened.special_ids) == ("infer", entry.inputs, {})


def test_the_only_model_is_the_only_one_that_generates_text(tmp_path: Path) -> None:
    make_folder(tmp_path, "tensors", kind="infer", context_length=0)
    assert find_model(tmp_path, "").manifest.name == "tensors"
    make_folder(tmp_path, "words")
    assert find_model(tmp_path, "").manifest.name == "words"
