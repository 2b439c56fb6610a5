"""Owns downloads from the Hugging Face Hub, or from what HF_ENDPOINT names. Takes only the files that a model needs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is whichever HTTP library's it uses
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from infermesh_client.model_import.layout import plan_layout
from infermesh_client.model_import.progress import ProgressView, Step
from infermesh_client.model_import.source import HubModel
from infermesh_client.model_import.staging import check_free_space
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, NotFound, Unavailable
from infermesh_runtime.model_manifest import ModelFormat


def download_hub_model(model: HubModel, folder: Path, view: ProgressView) -> tuple[str, ModelFormat]:
    """Downloads the model's files into `folder`; returns the commit they are of and the weights' format.

    Raises NotFound, FailedPrecondition (gated or private), InvalidArgument (no model in it) or Unavailable.
    """
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with _translated_errors(model, api.endpoint):
        info = api.model_info(model.repository, revision=model.revision, files_metadata=True)
        sizes_bytes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
        commit = info.sha or model.revision or "main"
        layout = plan_layout(list(sizes_bytes), place=f"{model.repository} on the Hub", gguf=model.file)
        total_bytes = sum(sizes_bytes[name] for name in layout.files)
        check_free_space(folder, 2 * total_bytes, what="the import")
        with view.bytes_step(f"Downloading {model.repository}", total_bytes) as step:
            for name in layout.files:
                api.hf_hub_download(
                    model.repository, name, revision=commit, local_dir=folder, tqdm_class=_reporting_to(step)
                )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the Hub client's own notes
    for name, target in layout.files.items():
        (folder / target).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / target)
    return commit, layout.format


def _reporting_to(step: Step) -> type[hub_tqdm]:
    """A progress bar class that shows nothing and tells the step instead."""

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


def _explain(error: Exception, model: HubModel, endpoint: str) -> Exception:  # noqa: PLR0911 - one a kind
    where = f"{model.repository} at {endpoint}"
    match error:
        case GatedRepoError():
            return FailedPrecondition(
                f"{where} is gated: accept its terms on its page and set HF_TOKEN to a token that may read it",
                reason="MODEL_GATED",
            )
        case RevisionNotFoundError():
            return NotFound(f"{where} has no revision {model.revision!r}")
        case RepositoryNotFoundError():
            return NotFound(f"{where} does not exist, or is private: then set HF_TOKEN to a token that may read it")
        case HFValidationError():
            return InvalidArgument(f"{model.repository!r} is not a Hub id: {error}")
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return FailedPrecondition(f"{where} refuses the access: set HF_TOKEN to a token that may read it")
        case OSError() if error.errno is not None:
            return error  # of the disk
        case _:
            return Unavailable(f"the download of {where} failed: {str(error).splitlines()[0]}")
