"""Parses the SOURCE argument of an import: what kind of source it is and what it names."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from infermesh_client.gguf_metadata.reader import is_gguf
from infermesh_client.model_import.hugging_face.pickles import pickled_weights
from infermesh_client.model_import.speech_models.kind import is_speech
from infermesh_client.model_import.tensor_models.package_file import PackageFile, parse_package_file
from infermesh_client.model_import.text_models.kind import text_kind
from infermesh_client.model_import.voice_models.kind import is_voice_model
from infermesh_client.stores.ollama import find_model, store_folder
from infermesh_client.weight_files.pointers import check_no_pointer
from infermesh_client.weight_files.splits import one_model
from infermesh_runtime.errors import InvalidArgument, NotFound
from infermesh_runtime.importing.network_imports import HUB_ID, check_model_name

ACCEPTED = (
    "a GGUF file, an OpenVINO IR folder (openvino_model.xml and .bin), a Hugging Face folder (config.json and "
    "*.safetensors), a Hub id (hf:org/name, org/name@revision, org/name:file.gguf), modelscope:org/name[@revision], "
    "ollama:NAME[:TAG], or pypi:PACKAGE[==VERSION]; for models that turn text into speech, a folder of Kokoro with its "
    "ONNX file, voices and vocabulary; for models of tensors, an ONNX, OpenVINO IR (.xml), TensorFlow "
    "Lite, TensorFlow (.pb), Paddle (.pdmodel), torch.export (.pt2) or TorchScript (.pt, .ts) file, a folder "
    "with one, or a file in a package (pypi:PACKAGE[==VERSION]:PATH, npm:PACKAGE@VERSION:PATH); for models that turn "
    "texts into vectors or scores, a folder of sentence-transformers, or of an encoder with its tokenizer.json; for "
    "models that turn speech into text, a folder of Whisper with *.safetensors, or with model.bin of CTranslate2"
)
TENSOR_SUFFIXES = (".onnx", ".xml", ".tflite", ".pb", ".pdmodel", ".pt2", ".pt", ".ts")
"""Of the file that has the graph of a model of tensors: ONNX, OpenVINO IR, TensorFlow, Paddle, or of torch."""
_HUB, _MODELSCOPE, _OLLAMA = "hf:", "modelscope:", "ollama:"
_PACKAGE = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*)(?:==(?P<version>[\w.!+-]+))?")


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file on this machine, or the first shard of one that is split."""

    path: Path
    label: str = ""
    """The source, as the manifest records it; empty: the path."""
    revision: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class OpenVinoFolder:
    """A folder with openvino_model.xml and openvino_model.bin on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class VoiceModel:
    """A folder on this machine with a model that turns text into speech."""

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
    hub: Literal["hf", "modelscope"] = "hf"


@dataclass(frozen=True, slots=True)
class PypiPackage:
    """A package whose wheel holds one GGUF file."""

    requirement: str
    """NAME or NAME==VERSION, as pip takes it."""


@dataclass(frozen=True, slots=True)
class TensorModel:
    """A model of tensors on this machine, by the file that has its graph."""

    graph: Path


@dataclass(frozen=True, slots=True)
class TextModel:
    """A folder on this machine with a model that turns texts into vectors or scores."""

    path: Path


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """A folder on this machine with a model that turns speech into text."""

    path: Path


ModelSource = GgufFile | OpenVinoFolder | HuggingFaceFolder | HubModel | PypiPackage
FolderModel = TextModel | SpeechModel | VoiceModel
LocalSource = ModelSource | TensorModel | FolderModel
_FOLDER_KINDS: Sequence[tuple[Callable[[Path], object], type[FolderModel]]] = (
    (is_voice_model, VoiceModel),
    (text_kind, TextModel),
    (is_speech, SpeechModel),
)
"""What tells the folders of models that do not generate text, in this order."""


def parse_source(text: str) -> LocalSource | PackageFile:
    """Parses a source. Raises NotFound when it names nothing on this machine, InvalidArgument when it is malformed."""
    if (in_package := parse_package_file(text)) is not None:
        if in_package.path.suffix not in TENSOR_SUFFIXES:
            raise InvalidArgument(f"{in_package.path} is no model of tensors: expected {', '.join(TENSOR_SUFFIXES)}")
        return in_package
    if text.startswith("pypi:"):
        requirement = text.removeprefix("pypi:")
        if not _PACKAGE.fullmatch(requirement):
            raise InvalidArgument(f"{text!r} is malformed; expected pypi:PACKAGE or pypi:PACKAGE==VERSION")
        return PypiPackage(requirement)
    if text.startswith(_OLLAMA):
        found = find_model(text.removeprefix(_OLLAMA), store_folder())
        return GgufFile(found.gguf, text, found.digest, found.licence)
    for prefix in (_HUB, _MODELSCOPE):
        if text.startswith(prefix):
            model = _hub_model(text.removeprefix(prefix))
            if model is None:
                raise InvalidArgument(f"{text!r} is malformed; expected {prefix}org/name[@revision][:file.gguf]")
            return replace(model, hub="modelscope") if prefix == _MODELSCOPE else model
    path = Path(text).expanduser()
    if path.exists():
        return _local(path)
    model = _hub_model(text)
    if model is not None and (model.file or not text.endswith(".gguf")):
        return model
    raise NotFound(f"there is no file or folder {text!r} on this machine. A source is {ACCEPTED}")


def check_name(name: str) -> str:
    """Returns `name` if it can be a model's name, which is also its folder's. Raises InvalidArgument otherwise."""
    return check_model_name(name)


def _hub_model(text: str) -> HubModel | None:
    match = HUB_ID.fullmatch(text)
    return HubModel(match["repo"], match["revision"], match["file"]) if match else None


def _local(path: Path) -> LocalSource:
    if not path.is_file():
        return _local_folder(path)
    check_no_pointer(path)
    if is_gguf(path):
        return GgufFile(path)
    if path.suffix in TENSOR_SUFFIXES:
        return TensorModel(path)
    raise InvalidArgument(f"{path} is not a GGUF file. A source is {ACCEPTED}")


def _local_folder(path: Path) -> LocalSource:
    if (path / "openvino_model.xml").is_file():
        return OpenVinoFolder(path)
    for is_kind, kind in _FOLDER_KINDS:
        if is_kind(path):
            return kind(path)
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return HuggingFaceFolder(path)
    ggufs = sorted(path.glob("*.gguf"))
    if one_model([gguf.name for gguf in ggufs]):
        return GgufFile(ggufs[0])
    graphs = sorted(entry for entry in path.iterdir() if entry.suffix in TENSOR_SUFFIXES)
    if len(graphs) == 1:
        return TensorModel(graphs[0])
    names = {entry.name for entry in path.iterdir()}
    hint = f"; it holds {len(ggufs)} GGUF files, so name one of them" if ggufs else pickled_weights(names)
    raise InvalidArgument(f"the folder {path} is not a model{hint}. A source is {ACCEPTED}")
