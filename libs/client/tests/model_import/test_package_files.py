"""Sources that name a file in a package: downloaded, compared with their hash, unpacked, and never run."""

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import parse_source
from infermesh_client.model_import.tensor_models.package_download import unpacked
from infermesh_client.model_import.tensor_models.package_file import PackageFile, parse_package_file
from infermesh_runtime.errors import InfermeshError, InvalidArgument, NotFound, Unavailable

BODY = b"an ONNX file"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, with one."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    with zipfile.ZipFile(folder / "tiny_model-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/data/m.onnx", BODY)
        wheel.writestr("tiny_model/data/m.onnx_data", b"weights")
        wheel.writestr("tiny_model/data/code.py", "raise SystemExit")
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('the package was run')")
        metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.2\nRequires-Dist: not-there\n"
        wheel.writestr("tiny_model-1.2.dist-info/METADATA", metadata)
        wheel.writestr("tiny_model-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.2.dist-info/RECORD", "")
    return folder


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for npm: `npm pack` writes one package, or fails for another."""
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as tar:
        member = tarfile.TarInfo("package/onnx/m.onnx")
        member.size = len(BODY)
        tar.addfile(member, io.BytesIO(BODY))
    script = tmp_path / "bin" / "npm"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\n[ "$2" = "@acme/tiny@1.0.2" ] || { echo "npm error 404" >&2; exit 1; }\n'
        f'cp {package} "$4/tiny.tgz"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


def view() -> ProgressView:
    return ProgressView(Console(quiet=True))


def parsed(text: str) -> PackageFile:
    found = parse_source(text)
    assert isinstance(found, PackageFile)
    return found


def test_a_wheels_file_comes_with_those_of_its_folder_and_no_code(index: Path) -> None:
    with unpacked(parsed("pypi:tiny-model:tiny_model/data/m.onnx"), view()) as found:
        assert found.label == "pypi:tiny-model==1.2:tiny_model/data/m.onnx"
        assert found.graph.read_bytes() == BODY
        assert {path.name for path in found.graph.parent.iterdir()} == {"m.onnx", "m.onnx_data"}
    assert not found.graph.exists()


def test_the_hash_of_the_file_is_checked(index: Path) -> None:
    source = "pypi:tiny-model==1.2:tiny_model/data/m.onnx#sha256="
    with unpacked(parsed(source + hashlib.sha256(BODY).hexdigest()), view()):
        pass
    with pytest.raises(InvalidArgument, match="has the SHA-256"), unpacked(parsed(source + "0" * 64), view()):
        pass


def test_a_file_that_is_not_there_is_named_with_those_that_are(index: Path) -> None:
    missing = parsed("pypi:tiny-model:tiny_model/n.onnx")
    listed = r"no file tiny_model/n\.onnx; it has tiny_model/data/m\.onnx"
    with pytest.raises(NotFound, match=listed), unpacked(missing, view()):
        pass


def test_a_damaged_package_is_refused(index: Path) -> None:
    wheel = next(index.glob("*.whl"))
    body = wheel.read_bytes()
    wheel.write_bytes(body.replace(BODY, b"another file"))
    with (
        pytest.raises(InfermeshError, match=r"tiny.model"),
        unpacked(parsed("pypi:tiny-model:tiny_model/data/m.onnx"), view()),
    ):
        pass


@pytest.mark.usefixtures("npm")
def test_a_package_of_npm_is_downloaded_with_npm() -> None:
    with unpacked(parsed("npm:@acme/tiny@1.0.2:onnx/m.onnx"), view()) as found:
        assert (found.label, found.graph.read_bytes()) == ("npm:@acme/tiny@1.0.2:onnx/m.onnx", BODY)
    other = parsed("npm:acme@1.0.0:m.onnx")
    with pytest.raises(Unavailable, match=r"download acme@1\.0\.0: npm error 404"), unpacked(other, view()):
        pass


def test_only_whole_versions_of_npm_are_taken() -> None:
    for version in ("1", "1.2", "1.x", "1.2.x", "latest", "^1.2.3", "1.2.3||2.0.0", "1.2.3 - 2"):
        with pytest.raises(InvalidArgument, match=r"whole version, such as 1\.0\.2"):
            parse_source(f"npm:acme@{version}:m.onnx")
    for version in ("1.2.3", "1.2.3-beta.1", "10.20.30+build.5"):
        assert parsed(f"npm:acme@{version}:m.onnx").package == f"acme@{version}"


@pytest.mark.parametrize(
    "text",
    ["npm:acme:m.onnx", "npm:acme@1", "pypi:acme:", "pypi:acme:../m.onnx", "pypi:acme:/m.onnx", "pypi:acme:m.txt"],
)
def test_malformed_sources_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_source(text)


def test_whole_packages_are_no_files() -> None:
    assert parse_package_file("pypi:tiny-model==1.2") is None
