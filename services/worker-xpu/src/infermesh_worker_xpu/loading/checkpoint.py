"""Refuses checkpoints that transformers would load in part, or with weights that it makes up."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import FailedPrecondition


def check_quantisation(folder: Path) -> None:
    """Raises FailedPrecondition that names the method by which the weights were quantised, if config.json has one.

    Without a GPU, transformers loads some of them as something else, and it ignores methods that it does not know.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return  # transformers says what is wrong
    for part in (config, config.get("text_config") or {}):
        if described := part.get("quantization_config") or part.get("compression_config"):
            raise _refusal(
                f"its weights are quantised with {described.get('quant_method', 'an unknown method')}; import the "
                "model that it was made from, or a GGUF file of it"
            )


def check_loaded(report: Mapping[str, Collection[Any]]) -> None:
    """Checks the loading report of `from_pretrained`.

    Raises FailedPrecondition if the model has weights that the files lack, which would be random, or the files hold
    weights that the model would leave out.
    """
    if missing := sorted(report.get("missing_keys", ())):
        raise _refusal(f"its files lack {_listed(missing)}")
    if unexpected := sorted(report.get("unexpected_keys", ())):
        raise _refusal(f"its files hold {_listed(unexpected)}, which its configuration has no use for")
    if errors := list(report.get("error_msgs", ())):
        raise _refusal(f"its weights do not fit: {errors[0]}")


def _listed(names: list[str]) -> str:
    return f"the tensor {names[0]}" if len(names) == 1 else f"{len(names)} tensors such as {names[0]}"


def _refusal(reason: str) -> FailedPrecondition:
    return FailedPrecondition(f"worker-xpu cannot load this model: {reason}", reason="MODEL_NOT_SUPPORTED")
