"""When the files of a model are compared with its manifest, and what happens when one differs."""

import os
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from msgspec.structs import replace

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import FileEntry, hash_file, read_manifest, write_manifest
from infermesh_worker.models.building import open_for_build
from infermesh_worker.models.catalog import FolderCatalog
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.verification import MARK, Verify
from libs.worker.tests.models.test_model_folder import make


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed."""
    names: list[str] = []

    def counted(file: BinaryIO) -> FileEntry:
        names.append(Path(file.name).name)
        return hash_file(file)

    monkeypatch.setattr("infermesh_worker.models.model_folder.hash_file", counted)
    return names


def load(folder: Path, verify: Verify) -> ModelFolder:
    opened, others = open_for_build({"folder": str(folder), "verify": verify, "threads": 2})
    assert others == {"threads": 2}
    return opened


def change(path: Path, *, keep_time: bool = False) -> None:
    """Changes a byte of a file, whose size stays."""
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    later_ns = stat.st_mtime_ns + (0 if keep_time else 1_000_000_000)
    os.utime(path, ns=(stat.st_atime_ns, later_ns))


def test_what_replaced_an_opened_model_is_not_built(tmp_path: Path) -> None:
    folder = make(tmp_path)
    catalog = FolderCatalog(tmp_path, {}, lambda _folder: Footprint(base_bytes=1))
    options = catalog.open_folder(ModelFolder.open(folder)).build_options
    assert open_for_build(options)[1] == {}
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, created=manifest.created + timedelta(seconds=1)))
    with pytest.raises(FailedPrecondition, match=r"was replaced .* unload 'tiny', and load it again") as error:
        open_for_build(options)
    assert error.value.reason == "MODEL_REPLACED"


@pytest.mark.parametrize("verify", ["first", "always"])
def test_a_file_that_differs_from_the_import_is_named(tmp_path: Path, verify: Verify) -> None:
    folder = make(tmp_path)
    change(folder / "openvino" / "openvino_model.bin")
    with pytest.raises(FailedPrecondition, match=r"openvino_model.bin has changed since the import: import it again"):
        load(folder, verify)
    assert not (folder / MARK).exists()


def test_first_hashes_once_and_again_after_a_change(tmp_path: Path, hashed: list[str]) -> None:
    folder = make(tmp_path)
    load(folder, "first")
    assert sorted(hashed) == sorted(Path(name).name for name in ModelFolder.open(folder).manifest.files)
    hashed.clear()
    load(folder, "first")
    assert hashed == []
    change(folder / "model.gguf")
    with pytest.raises(FailedPrecondition, match=r"model.gguf has changed"):
        load(folder, "first")


def test_always_hashes_at_each_load(tmp_path: Path, hashed: list[str]) -> None:
    folder = make(tmp_path)
    load(folder, "always")
    first = len(hashed)
    change(folder / "model.gguf", keep_time=True)
    with pytest.raises(FailedPrecondition, match=r"model.gguf has changed"):
        load(folder, "always")
    assert len(hashed) > first


def test_never_hashes_nothing(tmp_path: Path, hashed: list[str]) -> None:
    folder = make(tmp_path)
    change(folder / "model.gguf")
    load(folder, "never")
    assert hashed == []


def test_a_mark_of_another_import_does_not_count(tmp_path: Path, hashed: list[str]) -> None:
    one, other = make(tmp_path, "one"), make(tmp_path, "other", template="{{ 1 }}")
    load(one, "first")
    (other / MARK).write_bytes((one / MARK).read_bytes())
    hashed.clear()
    load(other, "first")
    assert hashed


def test_a_damaged_mark_and_a_folder_that_cannot_be_written_are_no_obstacle(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path)
    (folder / MARK).write_text("{")

    def read_only(*_arguments: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Path, "replace", read_only)
    load(folder, "first")
    assert hashed
