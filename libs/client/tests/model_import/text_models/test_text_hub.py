"""Models of texts from the Hub: only what is needed is downloaded, and what cannot be served is refused before it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.text_models import importing
from infermesh_client.model_import.text_models.serving import Served
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.text_encoder import EncoderFacts
from libs.client.tests.model_import.conftest import COMMIT, Hub
from libs.client.tests.weights import TOKENIZER, safetensors

REPOSITORY = {
    "config.json": json.dumps({"model_type": "bert", "architectures": ["BertModel"]}).encode(),
    "tokenizer.json": TOKENIZER.encode(),
    "modules.json": json.dumps(
        [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    ).encode(),
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    "model.safetensors": safetensors(bytes(64)),
    "onnx/model.onnx": b"not needed",
    "pytorch_model.bin": b"not needed",
    "README.md": b"not needed",
}


def view() -> ProgressView:
    return ProgressView(Console(file=io.StringIO()))


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    """The stand-in as the Hub, and a worker that can serve anything: real ones are asked in their packages' tests."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(importing, "find_worker", lambda *_: Served(context_length=64, dimensions=8))


def test_only_what_is_needed_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/texts"] = dict(REPOSITORY)
    manifest = import_model("org/texts", "m", tmp_path / "models", view())
    assert (manifest.kind, manifest.source, manifest.revision) == ("embed", f"org/texts@{COMMIT}", COMMIT)
    assert manifest.encoder == EncoderFacts(dimensions=8, pooling="cls")
    assert set(manifest.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert not any(name in request for request in hub.requests for name in ("onnx", "pytorch", "README"))
    assert not (tmp_path / "models" / ".downloads").exists()


def test_what_workers_cannot_do_is_refused_before_the_weights(hub: Hub, tmp_path: Path) -> None:
    dense = json.dumps([{"type": "a.Transformer", "path": ""}, {"type": "a.Dense", "path": "2_Dense"}]).encode()
    hub.models["org/dense"] = {**REPOSITORY, "modules.json": dense}
    with pytest.raises(InvalidArgument, match="names the module Dense"):
        import_model("org/dense", "m", tmp_path / "models", view())
    assert not any("safetensors" in request for request in hub.requests)
    hub.models["org/pickled"] = {
        name: content for name, content in REPOSITORY.items() if name != "model.safetensors" and "onnx" not in name
    }
    with pytest.raises(InvalidArgument, match="turns texts into vectors, but has neither"):
        import_model("org/pickled", "m", tmp_path / "models", view())


def test_a_dry_run_lists_the_files(hub: Hub, tmp_path: Path) -> None:
    hub.models["org/texts"] = dict(REPOSITORY)
    lines = examine_model("org/texts", tmp_path / "models", view())
    assert f"source: org/texts@{COMMIT}" in lines
    assert any("1_Pooling/config.json" in line and "README" not in line for line in lines)
    assert not (tmp_path / "models").exists()
