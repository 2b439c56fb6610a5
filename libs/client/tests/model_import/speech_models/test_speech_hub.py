"""Whisper from the Hub: only what is needed is downloaded, and other models are left to the other imports."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.speech_models import importing
from infermesh_client.model_import.workers.asking import Served
from infermesh_runtime.errors import InvalidArgument
from libs.client.tests.model_import.conftest import COMMIT, Hub
from libs.client.tests.weights import TOKENIZER, safetensors

REPOSITORY = {
    "config.json": json.dumps({"model_type": "whisper"}).encode(),
    "generation_config.json": b"{}",
    "preprocessor_config.json": b"{}",
    "tokenizer.json": TOKENIZER.encode(),
    "model.safetensors": safetensors(bytes(64)),
    "model.fp32-00001-of-00002.safetensors": b"not needed",
    "pytorch_model.bin": b"not needed",
    "README.md": b"not needed",
}


def view() -> ProgressView:
    return ProgressView(Console(file=io.StringIO()))


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    """The stand-in as the Hub, and a worker that can serve anything: real ones are asked in their packages' tests."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    served = Served({"context_length": 448, "languages": ["de", "en"]}, ("torch",))
    monkeypatch.setattr(importing, "ask_workers", lambda *_, **__: served)


def test_only_what_is_needed_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/speech"] = dict(REPOSITORY)
    manifest = import_model("org/speech", "m", tmp_path / "models", view())
    assert (manifest.kind, manifest.source, manifest.revision) == ("transcribe", f"org/speech@{COMMIT}", COMMIT)
    assert (manifest.context_length, manifest.not_for) == (448, ("torch",))
    assert set(manifest.files) == {name for name, content in REPOSITORY.items() if content != b"not needed"}
    assert not any(name in request for request in hub.requests for name in ("fp32", "pytorch", "README"))


INDEXED = {
    **{name: content for name, content in REPOSITORY.items() if name != "model.safetensors"},
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
    "model-00001-of-00002.safetensors": safetensors(bytes(64), name="a"),
    "model-00002-of-00002.safetensors": safetensors(bytes(32), name="b"),
    "adapter/model.safetensors": b"not needed",
    "adapter_model.safetensors": b"not needed",
}


def test_shards_come_with_their_index_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/sharded"] = dict(INDEXED)
    manifest = import_model("org/sharded", "m", tmp_path / "models", view())
    assert set(manifest.files) == {name for name, content in INDEXED.items() if content != b"not needed"}
    assert manifest.size_bytes == sum(len(INDEXED[f"model-0000{number}-of-00002.safetensors"]) for number in (1, 2))
    assert not any("adapter" in request for request in hub.requests)


def test_a_whole_file_goes_before_an_index(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/both"] = {**INDEXED, **REPOSITORY}
    manifest = import_model("org/both", "m", tmp_path / "models", view())
    assert set(manifest.files) == {name for name, content in REPOSITORY.items() if content != b"not needed"}


def test_a_shard_that_is_missing_is_named_before_the_download(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/cut"] = dict(INDEXED)
    del hub.models["org/cut"]["model-00002-of-00002.safetensors"]
    with pytest.raises(InvalidArgument, match="lacks 1 of the 2 files"):
        import_model("org/cut", "m", tmp_path / "models", view())
    assert not any("00001" in request for request in hub.requests)


def test_a_dry_run_lists_the_files(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/speech"] = dict(REPOSITORY)
    lines = examine_model("org/speech", tmp_path / "models", view())
    assert f"source: org/speech@{COMMIT}" in lines
    assert any("model.safetensors" in line and "fp32" not in line for line in lines)
    assert not (tmp_path / "models").exists()


def test_pickled_weights_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/pickled"] = {name: file for name, file in REPOSITORY.items() if "safetensors" not in name}
    with pytest.raises(InvalidArgument, match="turns speech into text, but has no"):
        import_model("org/pickled", "m", tmp_path / "models", view())
