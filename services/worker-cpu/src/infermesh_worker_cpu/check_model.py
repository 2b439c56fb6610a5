"""Checks, before an import copies anything, that worker-cpu can run a GGUF file, and accounts for its keys."""

from collections.abc import Sequence
from pathlib import Path

from infermesh_runtime.gguf_account.lines import account_lines
from infermesh_worker.models.gguf_file import GgufFile

from .gguf_graph.build import account_of
from .soft_cap.folders import read_folder


def check(path: Path, model_format: str) -> Sequence[str]:
    """Lines for the account of an import: the keys that were applied, and those known to be without effect.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know, and FailedPrecondition
    for one that OpenVINO cannot serve. Of other formats it checks the soft cap of attention; the rest is left to their
    converter.
    """
    if model_format != "gguf":
        read_folder(path)
        return ()
    return account_lines(account_of(GgufFile(path)))
