"""Complete model folders open; errors about others say what is wrong and what to do."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import MANIFEST, FileEntry, Manifest, hash_file, write_manifest
from infermesh_worker.models.model_folder import ModelFolder, find_model, list_models
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.models.templates.template_process import pack_conversation
from infermesh_worker.testing.simulated_engine import build_tokenizer


def entries_of(folder: Path) -> dict[str, FileEntry]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: FileEntry(path.stat().st_size, sha256(path.read_bytes()).hexdigest()) for name, path in files.items()}


def make(root: Path, name: str = "tiny", template: str | None = "{{ bos_token }}{{ messages[0].content }}") -> Path:
    folder = root / name
    (folder / "openvino").mkdir(parents=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "model.gguf").write_bytes(b"weights")
    (folder / "openvino" / "openvino_model.bin").write_bytes(b"converted")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    manifest = Manifest(
        name=name,
        source="hub/tiny",
        format="gguf",
        context_length=2048,
        eos_token_ids=(258,),
        bos_token_id=256,
        size_bytes=7,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        files=entries_of(folder),
    )
    write_manifest(folder, manifest)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_whole_folder_opens_and_verifies(tmp_path: Path) -> None:
    folder = ModelFolder.open(make(tmp_path))
    folder.verify()
    assert folder.manifest.created == datetime(2026, 1, 2, tzinfo=UTC)
    assert json.loads((folder.path / MANIFEST).read_text())["created"] == "2026-01-02T00:00:00Z"


async def test_served_model_has_tokenizer_and_template(tmp_path: Path) -> None:
    model = OpenedModel.from_folder(ModelFolder.open(make(tmp_path)), {})
    assert model.tokenizer.get_vocab_size() == 259
    conversation = pack_conversation([{"role": "user", "content": "hi"}])
    assert (await model.require_chat_template().render(conversation)).text == "<|endoftext|>hi"
    model.close()
    assert (model.name, model.context_length, model.size_bytes) == ("tiny", 2048, 7)


def test_base_model_says_to_send_text(tmp_path: Path) -> None:
    model = OpenedModel.from_folder(ModelFolder.open(make(tmp_path, template=None)), {})
    with pytest.raises(FailedPrecondition, match="/v1/completions"):
        model.require_chat_template()


def test_missing_file_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "model.gguf").unlink()
    with pytest.raises(FailedPrecondition, match=r"model.gguf is missing: .*models import hub/tiny --name tiny"):
        ModelFolder.open(folder)


def test_cut_file_is_named_at_open(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "model.gguf").write_bytes(b"weig")
    with pytest.raises(FailedPrecondition, match="has 4 bytes, but its manifest says 7"):
        ModelFolder.open(folder)


def test_changed_file_is_named_by_verify(tmp_path: Path) -> None:
    folder = ModelFolder.open(make(tmp_path))
    (folder.path / "model.gguf").write_bytes(b"w3ights")
    with pytest.raises(FailedPrecondition, match=r"model.gguf has changed since the import"):
        folder.verify()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"context_length": 0}, "context_length"),
        ({"format": "pickle"}, "format"),
        ({"created": "yesterday"}, "created"),
        ({"surprise": 1}, "surprise"),
        ({"files": {"../secret": {"size_bytes": 1, "sha256": "0" * 64}}}, "outside of its folder"),
        ({"files": {"a": {"size_bytes": 1, "sha256": "xyz"}}}, "sha256|pattern"),
    ],
)
def test_wrong_manifest_says_where(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = make(tmp_path)
    edit(folder, **changes)
    with pytest.raises(FailedPrecondition, match=words):
        ModelFolder.open(folder)


def test_manifest_that_is_no_json(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / MANIFEST).write_bytes(b"\xff{")
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        ModelFolder.open(folder)


def test_missing_model_lists_what_is_there(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(FailedPrecondition, match=r"no model folder .*other; models in .*: tiny"):
        find_model(tmp_path, "other")


def test_empty_root_says_to_import(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FailedPrecondition, match="infermesh models import SOURCE"):
            find_model(root, "")


def test_only_model_needs_no_name_and_two_do(tmp_path: Path) -> None:
    make(tmp_path)
    assert find_model(tmp_path, "").manifest.name == "tiny"
    make(tmp_path, "small")
    with pytest.raises(FailedPrecondition, match=r"INFERMESH_MODEL; models in .*: small, tiny"):
        find_model(tmp_path, "")


def test_list_leaves_out_staging_and_broken_folders(tmp_path: Path) -> None:
    make(tmp_path, "whole")
    make(tmp_path, ".staging-1")
    edit(make(tmp_path, "broken"), schema=9)
    (tmp_path / "notes").mkdir()
    assert [folder.manifest.name for folder in list_models(tmp_path)] == ["whole"]
    assert list_models(tmp_path / "absent") == []


def test_wrong_tokenizer_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    edit(folder, files={})
    with pytest.raises(FailedPrecondition, match=r"tokenizer.json cannot be used"):
        OpenedModel.from_folder(ModelFolder.open(folder), {})


def test_file_entry_has_a_lower_case_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with (tmp_path / "a").open("rb") as file:
        assert hash_file(file) == FileEntry(size_bytes=0, sha256=empty)
