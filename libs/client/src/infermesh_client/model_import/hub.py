"""Downloads the files that a model needs from the Hugging Face Hub, or from the server in HF_ENDPOINT."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError comes from the HTTP library that it uses
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from infermesh_client.model_import.hugging_face.checkpoint import check_checkpoint
from infermesh_client.model_import.hugging_face.folder import check_folder, read_config
from infermesh_client.model_import.hugging_face.heads import untie_own_head
from infermesh_client.model_import.hugging_face.tensors import write_index
from infermesh_client.model_import.hugging_face.weights import INDEX
from infermesh_client.model_import.layout import plan_layout
from infermesh_client.model_import.progress import ProgressStep, ProgressView
from infermesh_client.model_import.source import HubModel
from infermesh_client.model_import.staging import check_free_space
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, NotFound, Unavailable
from infermesh_runtime.model_manifest import ModelFormat


def download_hub_model(model: HubModel, folder: Path, view: ProgressView) -> tuple[str, ModelFormat]:
    """Downloads the model's files into `folder`. Returns their commit and the format of the weights.

    Raises NotFound, FailedPrecondition (gated or private), InvalidArgument (holds no model) or Unavailable.
    """
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with _translated_errors(model, api.endpoint):
        info = api.model_info(model.repository, revision=model.revision, files_metadata=True)
        sizes_bytes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
        commit = info.sha or model.revision or "main"
        place, names = f"{model.repository} on the Hub", list(sizes_bytes)

        def read(name: str) -> bytes:
            path = api.hf_hub_download(model.repository, name, revision=commit, local_dir=folder)
            return Path(path).read_bytes()

        layout = plan_layout(names, read, place=place, gguf=model.file)
        if layout.format == "safetensors":
            check_checkpoint(read_config(read("config.json"), place), names, place)
        total_bytes = sum(sizes_bytes[name] for name in layout.files)
        check_free_space(folder, 2 * total_bytes, what="the import")
        with view.bytes_step(f"Downloading {model.repository}", total_bytes) as step:
            for name in layout.files:
                api.hf_hub_download(
                    model.repository, name, revision=commit, local_dir=folder, tqdm_class=_reporting_to(step)
                )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the Hub client's bookkeeping
    if layout.format == "safetensors":
        check_folder(folder, names, layout.files, place, view.say)
    (folder / INDEX).unlink(missing_ok=True)  # it may be stale
    for name, target in layout.files.items():
        (folder / target).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / target)
    write_index(folder, layout.files)
    if layout.format == "safetensors":
        untie_own_head(folder)
    return commit, layout.format


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
        case OSError() if error.errno is not None:
            return error  # a fault of the disk; the importer explains it
        case _:
            return Unavailable(f"downloading {where} failed: {str(error).splitlines()[0]}")
