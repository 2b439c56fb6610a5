"""Downloads the files that a model needs from the Hugging Face Hub, or from the server in HF_ENDPOINT."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError comes from the HTTP library that it uses
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # not in its __all__
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from infermesh_client.model_import.hugging_face.checkpoint import check_checkpoint
from infermesh_client.model_import.hugging_face.folder import read_config
from infermesh_client.model_import.hugging_face.weights import ReadFile
from infermesh_client.model_import.layout import Layout, plan_layout
from infermesh_client.model_import.progress import ProgressStep
from infermesh_client.model_import.source import HubModel
from infermesh_client.stores.beginning import read_beginning
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, NotFound, Unavailable

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of a model on the Hub, before they are downloaded."""

    layout: Layout
    commit: str
    licence: str
    """Empty when the repository names none."""
    sizes_bytes: Mapping[str, int]
    """Size of each file of the layout; 0 where the server does not say."""
    names: Sequence[str]
    """All files of the repository."""

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(self.sizes_bytes.values())


Choose = Callable[[Sequence[str], ReadFile, str], Layout | None]
"""Chooses a model's files from the names that a repository has; the text names the repository in errors."""


def list_hub_model(model: HubModel, include: str | None) -> HubFiles:
    """Chooses the model's files; downloads nothing.

    Raises NotFound, FailedPrecondition (gated or private), InvalidArgument (holds no model) or Unavailable.
    """

    def choose(names: Sequence[str], read: ReadFile, place: str) -> Layout:
        layout = plan_layout(names, read, place=place, gguf=model.file, include=include)
        if layout.format == "safetensors":
            check_checkpoint(read_config(read("config.json"), place), names, place)
        return layout

    found = list_hub_files(model, choose)
    if found is None:
        raise InvalidArgument(f"{model.repository} on the Hub holds no model")
    return found


def list_hub_files(model: HubModel, choose: Choose) -> HubFiles | None:
    """The files that `choose` chooses; None if it chooses none. Raises what list_hub_model raises."""
    api = _api()
    with _translated_errors(model, api.endpoint):
        info = api.model_info(model.repository, revision=model.revision, files_metadata=True)
        sizes_bytes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
        commit = info.sha or model.revision or "main"
        with _reader(api, model.repository, commit) as read:
            layout = choose(list(sizes_bytes), read, f"{model.repository} on the Hub")
        if layout is None:
            return None
        licence = next((tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")), "")
        chosen_bytes = {name: sizes_bytes[name] for name in layout.files}
        return HubFiles(layout, commit, licence, chosen_bytes, list(sizes_bytes))


def download_hub_files(
    model: HubModel, files: HubFiles, names: Sequence[str], folder: Path, step: ProgressStep
) -> None:
    """Downloads some of the files into `folder`, and goes on where an earlier download into it ended.

    Raises what list_hub_model raises.
    """
    api = _api()
    with _translated_errors(model, api.endpoint):
        for name in names:
            if not (folder / name).is_file():
                _download(api, model, files, name, folder, step)
            else:
                step.advance(files.sizes_bytes[name])


def read_hub_beginning(model: HubModel, files: HubFiles, name: str, size_bytes: int) -> bytes:
    """The first bytes of a file, at least `size_bytes` if it has so many. Raises Unavailable."""
    api = _api()
    url = hf_hub_url(model.repository, name, revision=files.commit, endpoint=api.endpoint)
    try:
        with httpx.Client(timeout=_TIMEOUT_S) as client:
            return read_beginning(client, url, {}, build_hf_headers(), size_bytes)
    except httpx.HTTPError as error:
        raise Unavailable(f"reading {name} of {model.repository} at {api.endpoint} failed: {error}") from error


def _download(  # noqa: PLR0917 - all of them together say what and where to
    api: HfApi, model: HubModel, files: HubFiles, name: str, folder: Path, step: ProgressStep
) -> None:
    """Downloads one file; what has arrived stays when it fails, as the Hub's client does not keep it."""
    size, reporter, repository = files.sizes_bytes[name], _reporting_to(step), model.repository
    if size > MAX_HTTP_DOWNLOAD_SIZE:
        api.hf_hub_download(repository, name, revision=files.commit, local_dir=folder, tqdm_class=reporter)
        return
    part = folder / f"{name}.part"
    with part.open("ab") as file:
        step.advance(file.tell())
        http_get(
            hf_hub_url(repository, name, revision=files.commit, endpoint=api.endpoint),
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=size or None,
            tqdm_class=reporter,
        )
    part.replace(folder / name)


@contextmanager
def _reader(api: HfApi, repository: str, commit: str) -> Iterator[ReadFile]:
    """Reads small files of the repository by their names, into a scratch folder."""
    with tempfile.TemporaryDirectory() as scratch:

        def read(name: str) -> bytes:
            return Path(api.hf_hub_download(repository, name, revision=commit, local_dir=scratch)).read_bytes()

        yield read


def _api() -> HfApi:
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def _reporting_to(step: ProgressStep) -> type[hub_tqdm]:
    """A tqdm class that draws no bar and reports to the step instead."""

    class Reporter(hub_tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call] # tqdm has no types

        def update(self, n: float | None = 1) -> bool | None:
            step.advance(n or 0)
            return None

    return Reporter


@contextmanager
def _translated_errors(model: HubModel, endpoint: str) -> Iterator[None]:
    try:
        yield
    except InfermeshError:
        raise
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise _explain(error, model, endpoint) from error


def _explain(error: Exception, model: HubModel, endpoint: str) -> Exception:  # noqa: PLR0911 - one return for each kind of error
    where = f"{model.repository} at {endpoint}"
    match error:
        case GatedRepoError():
            return FailedPrecondition(
                f"{where} is gated: accept its terms on its web page, then set HF_TOKEN to a token with access",
                reason="MODEL_GATED",
            )
        case RevisionNotFoundError():
            return NotFound(f"{where} has no revision {model.revision!r}")
        case RepositoryNotFoundError():
            return NotFound(
                f"{where} does not exist, or is private; if it is private, set HF_TOKEN to a token with access"
            )
        case HFValidationError():
            return InvalidArgument(f"{model.repository!r} is not a Hugging Face Hub id: {error}")
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return FailedPrecondition(f"access to {where} was refused; set HF_TOKEN to a token with access")
        case HTTPError() if type(error).__name__ == "ConnectError":  # of httpx or httpx2, by the version of the library
            reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error).splitlines()[0])
            return Unavailable(
                f"{endpoint} cannot be reached: {reason}. Is this machine online? HF_ENDPOINT names another hub"
            )
        case OSError() if error.errno is not None:
            return error  # a fault of the disk; the importer explains it
        case _:
            return Unavailable(f"downloading {where} failed: {str(error).splitlines()[0]}")
