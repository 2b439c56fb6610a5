"""Refuses models that transformers loaded in part, or with weights that it made up: reads the report of a load."""

from collections.abc import Collection, Mapping
from typing import Any

from infermesh_runtime.errors import FailedPrecondition


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
    return FailedPrecondition(f"transformers cannot load this model as it is: {reason}", reason="MODEL_NOT_SUPPORTED")
