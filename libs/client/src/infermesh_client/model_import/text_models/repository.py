"""Imports models that turn texts into vectors or scores from the Hugging Face Hub."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infermesh_client.model_import.fetching.fetched import COPIES
from infermesh_client.model_import.fetching.hub import HubFiles, download_hub_files, list_hub_files
from infermesh_client.model_import.hugging_face.folder import read_config
from infermesh_client.model_import.hugging_face.weights import ReadFile
from infermesh_client.model_import.layout import Layout
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import HubModel
from infermesh_client.model_import.staging import check_free_space
from infermesh_client.model_import.tensor_models.importing import check_options
from infermesh_client.model_import.text_models.facts import read_facts
from infermesh_client.model_import.text_models.importing import Origin, import_text_model
from infermesh_client.model_import.text_models.kind import GRAPHS, MODULES, kind_of, read_object
from infermesh_client.model_import.user_paths import explained
from infermesh_client.stores.kept_downloads import download_folder
from infermesh_client.weight_files.account import disk_line
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import DOES, EMBED
from infermesh_runtime.manifest.model_manifest import Manifest

_CONFIG = "config.json"
_SMALL = frozenset(
    {_CONFIG, "tokenizer.json", "tokenizer_config.json", MODULES, "sentence_bert_config.json"}
    | {"config_sentence_transformers.json"}
)
_POOLING = re.compile(r"\d+_Pooling/config\.json")
_WEIGHTS = re.compile(r"[^/]+\.safetensors")


def find_repository(model: HubModel) -> HubFiles | None:
    """The files of a repository whose model turns texts into vectors or scores; None: it is another one."""
    if model.hub != "hf" or model.file is not None:
        return None
    return list_hub_files(model, _choose)


def import_repository(
    model: HubModel, files: HubFiles, target: Path, view: ProgressView, options: ImportOptions, *, force: bool
) -> Manifest:
    """Downloads a model, its small files first, and imports it. What has arrived is kept until an import succeeds."""
    label = f"{model.repository}@{files.commit}"
    check_options(options, "this one turns texts into vectors or scores")
    check_free_space(target.parent, COPIES * files.total_bytes, what="the import")
    small = [name for name in files.layout.files if name.endswith(".json")]
    weights = [name for name in files.layout.files if name not in small]
    with (
        explained(),
        tempfile.TemporaryDirectory() as scratch,
        download_folder(target.parent, label, Path(scratch)) as place,
    ):
        for name in files.layout.files:
            (place / name).parent.mkdir(exist_ok=True)
        with view.bytes_step(f"Downloading {model.repository}", files.total_bytes) as step:
            download_hub_files(model, files, small, place, step)
            _check_small(place)
            download_hub_files(model, files, weights, place, step)
        origin = Origin(label=label, revision=files.commit, licence=files.licence)
        return import_text_model(place, target, view, options, force=force, origin=origin)


def examine_repository(model: HubModel, files: HubFiles, root: Path, options: ImportOptions) -> Sequence[str]:
    """Says what an import would download."""
    check_options(options, "this one turns texts into vectors or scores")
    return [
        f"source: {model.repository}@{files.commit}",
        f"files: {', '.join(files.layout.files)}",
        f"licence: {files.licence or 'not named'}",
        disk_line(root, files.total_bytes),
    ]


def _choose(names: Sequence[str], read: ReadFile, place: str) -> Layout | None:
    """The files to download; None for a model of another kind."""
    if _CONFIG not in names:
        return None
    kind = kind_of(read_config(read(_CONFIG), place), has_modules=MODULES in names)
    if kind is None:
        return None
    weights = [name for name in names if _WEIGHTS.fullmatch(name)]
    graph = next((name for name in GRAPHS if name in names), None)
    if not weights and graph is not None:
        weights = [name for name in names if name.startswith(graph)]
    if not weights:
        raise InvalidArgument(f"{place} {DOES[kind]}, but has neither *.safetensors nor {' nor '.join(GRAPHS)}")
    if "tokenizer.json" not in names:
        raise InvalidArgument(f"{place} has no tokenizer.json")
    chosen = [name for name in names if name in _SMALL or _POOLING.fullmatch(name)] + weights
    return Layout("safetensors" if weights[0].endswith(".safetensors") else "onnx", {name: name for name in chosen})


def _check_small(place: Path) -> None:
    """Refuses, before the weights are downloaded, what workers cannot do."""
    kind = kind_of(read_object(place / _CONFIG), has_modules=(place / MODULES).is_file())
    read_facts(place, kind or EMBED)
