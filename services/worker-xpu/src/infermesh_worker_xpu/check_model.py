"""Checks, before an import copies anything, that worker-xpu can run a GGUF file, and accounts for its keys."""

from collections.abc import Sequence
from pathlib import Path

from infermesh_runtime.gguf_account.lines import account_lines
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_xpu.gguf_decoder.readable import account_of


def check(path: Path, model_format: str) -> Sequence[str]:
    """Lines for the account of an import. Raises as `account_of`; formats other than "gguf" are not checked."""
    return account_lines(account_of(GgufFile(path))) if model_format == "gguf" else ()
