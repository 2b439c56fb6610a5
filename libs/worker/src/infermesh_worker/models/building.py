"""Opens a model folder in the engine process, from the build options that the front sent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.catalog import FOLDER_OPTION, IDENTITY_OPTION
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.verification import verify_folder

VERIFY_OPTION = "verify"
"""Name of the build option that says when files are compared with the manifest."""
_FOR_FOLDER = {FOLDER_OPTION, IDENTITY_OPTION, VERIFY_OPTION}


def open_for_build(options: Mapping[str, Any]) -> tuple[ModelFolder, dict[str, Any]]:
    """The model folder, verified as the options say, and the options that are left for the runner.

    Raises FailedPrecondition when a file is missing, or differs from what was imported, and when the model was imported
    anew since the front opened it: the front's tokenizer, template and ends of answers are those of the old one.
    """
    folder = ModelFolder.open(Path(options[FOLDER_OPTION]))
    if options.get(IDENTITY_OPTION, folder.manifest.identity) != folder.manifest.identity:
        raise FailedPrecondition(
            f"{folder.path} was replaced after this worker had opened it: unload {folder.manifest.name!r}, and load it "
            "again",
            reason="MODEL_REPLACED",
        )
    verify_folder(folder, options.get(VERIFY_OPTION, "never"))
    return folder, {name: value for name, value in options.items() if name not in _FOR_FOLDER}
