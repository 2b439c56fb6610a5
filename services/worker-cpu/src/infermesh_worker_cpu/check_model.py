"""Checks, before an import copies anything, that worker-cpu can run a GGUF file, and accounts for its keys."""

from collections.abc import Sequence
from pathlib import Path

from infermesh_worker.models.gguf_file import GgufFile

from .gguf_graph.build import account_of


def check(path: Path, model_format: str) -> Sequence[str]:
    """Lines for the account of an import: the keys that were applied, and those known to be without effect.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know, and FailedPrecondition
    for one that OpenVINO cannot serve. Formats other than "gguf" are left to their converter.
    """
    if model_format != "gguf":
        return ()
    account = account_of(GgufFile(path))
    spec = account.spec
    experts = spec.layers[0].experts
    mixture = f", {experts.count} experts ({experts.used} for each token)" if experts else ""
    return (
        f"{spec.architecture}: {len(spec.layers)} layers, {spec.heads} heads ({spec.kv_heads} with keys and values)"
        f"{mixture}",
        f"applied: {', '.join(sorted(account.applied))}",
        f"without effect on the weights: {', '.join(sorted(account.without_effect))}",
    )
