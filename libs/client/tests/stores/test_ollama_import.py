"""Imports from the store of an Ollama on this machine, and links instead of copies."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InvalidArgument, NotFound


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> ProgressView:
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return ProgressView(Console(quiet=True))


class Store:
    """A store as `ollama pull` lays it out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs").mkdir(parents=True)

    def blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        return f"sha256:{digest}"

    def add(self, place: str, **layers: bytes) -> dict[str, str]:
        """Adds a model; returns the digest of each layer."""
        digests = {kind: self.blob(data) for kind, data in layers.items()}
        listed = [
            {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(layers[kind])}
            for kind, digest in digests.items()
        ]
        path = self.folder / "manifests" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schemaVersion": 2, "layers": listed}))
        return digests


@pytest.fixture
def store(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    made = Store(tmp_path / "ollama")
    made.add("registry.ollama.ai/library/tiny/latest", model=tiny_gguf.read_bytes(), license=b"\nMIT License\nmore")
    made.add("registry.ollama.ai/somebody/mine/q4", model=tiny_gguf.read_bytes(), template=b"{{ .Prompt }}")
    return made


@pytest.mark.parametrize(
    ("source", "licence"),
    [("ollama:tiny", "MIT License"), ("ollama:tiny:latest", "MIT License"), ("ollama:somebody/mine:q4", "")],
)
def test_a_model_of_the_store(  # noqa: PLR0917 - fixtures and cases
    source: str, licence: str, store: Store, tiny_gguf: Path, models_root: Path, view: ProgressView
) -> None:
    manifest = import_model(source, "m", models_root, view)
    assert (models_root / "m" / "model.gguf").read_bytes() == tiny_gguf.read_bytes()
    digest = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert (manifest.source, manifest.revision, manifest.licence) == (source, f"sha256:{digest}", licence)


def test_a_model_that_is_not_there(store: Store, models_root: Path, view: ProgressView) -> None:
    with pytest.raises(NotFound, match="no model 'other'; it has: tiny:latest, somebody/mine:q4"):
        import_model("ollama:other", "m", models_root, view)
    with pytest.raises(InvalidArgument, match="is not the name"):
        import_model("ollama:../../etc", "m", models_root, view)


def test_a_model_with_an_adapter(store: Store, tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    store.add("registry.ollama.ai/library/tuned/latest", model=tiny_gguf.read_bytes(), adapter=b"lora")
    with pytest.raises(InvalidArgument, match="LoRA adapter"):
        import_model("ollama:tuned", "m", models_root, view)


def test_a_blob_that_is_missing(store: Store, models_root: Path, view: ProgressView) -> None:
    for path in (store.folder / "blobs").iterdir():
        path.unlink()
    with pytest.raises(NotFound, match="run `ollama pull` again"):
        import_model("ollama:tiny", "m", models_root, view)


def test_a_linked_file_takes_no_space(tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    import_model(str(tiny_gguf), "m", models_root, view, ImportOptions(link=True))
    assert (models_root / "m" / "model.gguf").stat().st_ino == tiny_gguf.stat().st_ino


def test_a_link_across_file_systems_is_symbolic(
    tiny_gguf: Path, models_root: Path, view: ProgressView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_device(*_arguments: object) -> None:
        raise OSError(18, os.strerror(18))

    cached = tiny_gguf.with_name("cached.gguf")  # as a snapshot in the Hub's cache, which is a link itself
    cached.symlink_to(tiny_gguf)
    monkeypatch.setattr(os, "link", other_device)
    import_model(str(cached), "m", models_root, view, ImportOptions(link=True))
    assert (models_root / "m" / "model.gguf").readlink() == tiny_gguf


def test_only_files_can_be_linked(store: Store, models_root: Path, view: ProgressView) -> None:
    with pytest.raises(InvalidArgument, match="--link needs one GGUF file"):
        import_model("org/name", "m", models_root, view, ImportOptions(link=True))
    import_model("ollama:tiny", "m", models_root, view, ImportOptions(link=True))
