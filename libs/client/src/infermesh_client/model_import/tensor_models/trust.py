"""Refuses models that can run code of their makers, unless the user says that their makers are trusted."""

from pathlib import PurePath

from infermesh_client.model_import.options import ImportOptions
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.importing.network_imports import CODE_SUFFIXES


def check_trust(graph: PurePath, options: ImportOptions) -> None:
    """Raises FailedPrecondition for a program that the user does not trust. Reads nothing.

    worker-xpu's checks of such files refuse only what is known to be harmful.
    """
    if graph.name.lower().endswith(CODE_SUFFIXES) and not options.trust_code:
        raise FailedPrecondition(
            f"{graph.name} is a program for torch, which can run code of its maker on this machine, whatever is "
            "checked before; give --trust-code if you trust who made it (trust_code=True in Python), or ask them for "
            "an ONNX file, which needs no trust",
            reason="CODE_NOT_TRUSTED",
        )
