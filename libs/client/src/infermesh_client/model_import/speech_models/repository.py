"""Imports models that turn speech into text from the Hugging Face Hub."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from infermesh_client.model_import.fetching.fetched import COPIES
from infermesh_client.model_import.fetching.hub import HubFiles, download_hub_files, list_hub_files
from infermesh_client.model_import.hugging_face.folder import read_config
from infermesh_client.model_import.hugging_face.weights import INDEX, SINGLE, ReadFile, choose_weights
from infermesh_client.model_import.layout import Layout
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import HubModel
from infermesh_client.model_import.speech_models.importing import THIS, import_speech_model
from infermesh_client.model_import.speech_models.kind import SMALL, says_speech
from infermesh_client.model_import.staging import check_free_space
from infermesh_client.model_import.tensor_models.importing import check_options
from infermesh_client.model_import.text_models.importing import Origin
from infermesh_client.model_import.user_paths import explained
from infermesh_client.stores.kept_downloads import download_folder
from infermesh_client.weight_files.account import disk_line
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_manifest import Manifest

_CONFIG = "config.json"


def find_speech_repository(model: HubModel) -> HubFiles | None:
    """The files of a repository whose model turns speech into text; None: it is another one."""
    if model.hub != "hf" or model.file is not None:
        return None
    return list_hub_files(model, _choose)


def import_speech_repository(
    model: HubModel, files: HubFiles, target: Path, view: ProgressView, options: ImportOptions, *, force: bool
) -> Manifest:
    """Downloads a model and imports it. What has arrived is kept until an import succeeds. Raises InfermeshError."""
    label = f"{model.repository}@{files.commit}"
    check_options(options, THIS)
    check_free_space(target.parent, COPIES * files.total_bytes, what="the import")
    with (
        explained(),
        tempfile.TemporaryDirectory() as scratch,
        download_folder(target.parent, label, Path(scratch)) as place,
    ):
        with view.bytes_step(f"Downloading {model.repository}", files.total_bytes) as step:
            download_hub_files(model, files, list(files.layout.files), place, step)
        origin = Origin(label=label, revision=files.commit, licence=files.licence)
        return import_speech_model(place, target, view, options, force=force, origin=origin)


def examine_speech_repository(model: HubModel, files: HubFiles, root: Path, options: ImportOptions) -> Sequence[str]:
    """Says what an import would download."""
    check_options(options, THIS)
    return [
        f"source: {model.repository}@{files.commit}",
        f"files: {', '.join(files.layout.files)}",
        f"licence: {files.licence or 'not named'}",
        disk_line(root, files.total_bytes),
    ]


def _choose(names: Sequence[str], read: ReadFile, place: str) -> Layout | None:
    """The files to download; None for a model of another kind."""
    if _CONFIG not in names or not says_speech(read_config(read(_CONFIG), place)):
        return None
    present = [name for name in names if "/" not in name]
    weights = choose_weights(present, read, place)
    if not weights:
        raise InvalidArgument(f"{place} turns speech into text, but has no *.safetensors")
    if "tokenizer.json" not in present:
        raise InvalidArgument(f"{place} has no tokenizer.json")
    small = SMALL if SINGLE in weights else (*SMALL, INDEX)
    chosen = [*(name for name in present if name in small), *weights]
    return Layout("safetensors", {name: name for name in chosen})
