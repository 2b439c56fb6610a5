"""Downloads a model from a hub: first its small files, which can refuse it, then its weights."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from infermesh_client.model_import.describing.generation import GenerationFacts, settle_generation
from infermesh_client.model_import.fetching.fetched import COPIES, GGUF_NAME, Examined, Fetched, FetchOptions
from infermesh_client.model_import.fetching.folder import (
    account_of,
    check_small_files,
    check_weights,
    finish_folder,
    settle_small_files,
)
from infermesh_client.model_import.fetching.gguf import merge_shards, read_gguf_model
from infermesh_client.model_import.fetching.hub import HubFiles, download_hub_files, list_hub_model, read_hub_beginning
from infermesh_client.model_import.fetching.remote_weights import check_remote_weights
from infermesh_client.model_import.hugging_face.checkpoint import check_checkpoint
from infermesh_client.model_import.hugging_face.folder import check_folder as check_hugging_face
from infermesh_client.model_import.hugging_face.folder import read_config
from infermesh_client.model_import.layout import plan_layout
from infermesh_client.model_import.progress import ProgressStep, ProgressView
from infermesh_client.model_import.source import HubModel
from infermesh_client.model_import.staging import check_free_space
from infermesh_client.model_import.user_paths import unstaged
from infermesh_client.stores.kept_downloads import download_folder
from infermesh_client.stores.modelscope import COMMIT_DIGITS, DEFAULT_REVISION, ModelScope
from infermesh_client.weight_files.inspect import inspect_gguf

_WEIGHTS = (".gguf", ".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on a hub: what is known before its files are downloaded."""

    label: str
    """The source, as the manifest records it."""
    files: HubFiles


def fetch_remote(source: HubModel, folder: Path, view: ProgressView, options: FetchOptions) -> Fetched:
    """Downloads what the model needs. What has arrived is kept until an import of the same model succeeds."""
    found = _find(source, options.include)
    layout, licence = found.files.layout, found.files.licence
    options.before_copy(layout.format)
    with download_folder(folder.parent, found.label, folder) as place, unstaged(place, found.label, folder):
        settled = _download_all(source, found, place, view, options.eos)
        if layout.format == "gguf":
            shards = inspect_gguf(min(place / name for name in layout.files if name.endswith(".gguf")))
            facts, account = read_gguf_model(shards, folder, place, view)
            if len(shards) > 1:
                merge_shards(shards, folder / GGUF_NAME, view)
            else:
                shards[0].path.rename(folder / GGUF_NAME)
        else:
            facts = check_small_files(place, layout)
            if layout.format == "safetensors":
                check_hugging_face(place, found.files.names, layout.files, found.label, view.say)
            account = (*check_weights(place, layout.files), *account_of(place, layout, facts))
            _move(layout.files, place, folder)
            finish_folder(folder, layout, view)
        generation = settled or settle_generation(folder, facts, found.label, view, eos=options.eos)
    return Fetched(
        label=found.label,
        facts=facts,
        generation=generation,
        revision=found.files.commit,
        licence=licence,
        account=account,
    )


def examine_remote(source: HubModel, include: str | None) -> Examined:
    """Asks the hub what an import would download."""
    found = _find(source, include)
    files, licence = ", ".join(found.files.layout.files), found.files.licence
    account = (f"files: {files}", f"licence: {licence or 'not named'}")
    return Examined(label=found.label, account=account, size_bytes=found.files.total_bytes)


def _find(model: HubModel, include: str | None) -> RemoteModel:
    if model.hub == "hf":
        files, prefix = list_hub_model(model, include), ""
    else:
        files, prefix = _list_modelscope(model, include), "modelscope:"
    return RemoteModel(f"{prefix}{model.repository}@{files.commit}" + (f":{model.file}" if model.file else ""), files)


def _download_all(
    model: HubModel, found: RemoteModel, place: Path, view: ProgressView, eos: Sequence[str]
) -> GenerationFacts | None:
    """Downloads the small files, checks them, and then downloads the weights.

    Returns what the small files settle; None for a GGUF file, which holds what others have in small files.
    """
    layout, settled = found.files.layout, None
    small = [name for name in layout.files if not name.endswith(_WEIGHTS)]
    check_free_space(place, COPIES * found.files.total_bytes, what="the import")
    with view.bytes_step(f"Downloading {model.repository}", found.files.total_bytes) as step:
        _download(model, found, small, place, step)
        if layout.format != "gguf":
            facts = check_small_files(place, layout)
            settled = settle_small_files(place, layout, facts, found.label, view, eos=eos)
            check_remote_weights(place, found.files, found.label, partial(_read_beginning, model, found))
        _download(model, found, [name for name in layout.files if name not in small], place, step)
    return settled


def _download(model: HubModel, found: RemoteModel, names: Sequence[str], place: Path, step: ProgressStep) -> None:
    if model.hub == "hf":
        download_hub_files(model, found.files, names, place, step)
        return
    with _modelscope(model, found) as remote:
        listed = remote.files()
        for name in names:
            if not (place / name).is_file():
                remote.download(name, listed[name], place / name, step)


def _read_beginning(model: HubModel, found: RemoteModel, name: str, size_bytes: int) -> bytes:
    if model.hub == "hf":
        return read_hub_beginning(model, found.files, name, size_bytes)
    with _modelscope(model, found) as remote:
        return remote.beginning(name, size_bytes)


def _modelscope(model: HubModel, found: RemoteModel) -> ModelScope:
    commit = found.files.commit  # its first digits name no revision
    return ModelScope(model.repository, commit if len(commit) == COMMIT_DIGITS else model.revision)


def _move(files: Mapping[str, str], place: Path, folder: Path) -> None:
    for name, target in files.items():
        (folder / target).parent.mkdir(exist_ok=True)
        (place / name).rename(folder / target)


def _list_modelscope(model: HubModel, include: str | None) -> HubFiles:
    with ModelScope(model.repository, model.revision) as remote:
        listed = remote.files()
        place = f"{model.repository} on ModelScope"
        with tempfile.TemporaryDirectory() as scratch:

            def read(name: str) -> bytes:
                remote.download(name, listed[name], Path(scratch) / name, _NoStep())
                return (Path(scratch) / name).read_bytes()

            layout = plan_layout(list(listed), read, place=place, gguf=model.file, include=include)
            if layout.format == "safetensors":
                check_checkpoint(read_config(read("config.json"), place), list(listed), place)
        sizes_bytes = {name: listed[name].size_bytes for name in layout.files}
        return HubFiles(layout, remote.commit or model.revision or DEFAULT_REVISION, "", sizes_bytes, list(listed))


class _NoStep:
    """Shows no progress."""

    def advance(self, size_bytes: float, /) -> None:
        """Takes note of nothing."""
