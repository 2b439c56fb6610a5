"""Opens a model folder in the engine process, from the build options that the front sent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_worker.models.catalog import FOLDER_OPTION
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.verification import verify_folder

VERIFY_OPTION = "verify"
"""Name of the build option that says when files are compared with the manifest."""


def open_for_build(options: Mapping[str, Any]) -> tuple[ModelFolder, dict[str, Any]]:
    """The model folder, verified as the options say, and the options that are left for the runner.

    Raises FailedPrecondition when a file is missing, or differs from what was imported.
    """
    folder = ModelFolder.open(Path(options[FOLDER_OPTION]))
    verify_folder(folder, options.get(VERIFY_OPTION, "never"))
    return folder, {name: value for name, value in options.items() if name not in {FOLDER_OPTION, VERIFY_OPTION}}
