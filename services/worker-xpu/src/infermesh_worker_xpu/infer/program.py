"""What the executor needs of a program of torch, whichever way it was saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_kind import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A loaded program on its device."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    """Runs it on tensors in the order of `inputs`; gives tensors in the order of `outputs`.

    Raises AssertionError and RuntimeError for tensors that it cannot run on.
    """


def check_names(graph: str, specs: Sequence[TensorSpec], what: str) -> None:
    """Raises FailedPrecondition if there are no tensors, or two have one name."""
    names = [spec.name for spec in specs]
    if not names:
        raise FailedPrecondition(f"{graph} has no {what}s that are tensors", reason="MODEL_NOT_SUPPORTED")
    if len(set(names)) < len(names):
        raise FailedPrecondition(f"{graph} has two {what}s of one name: {names}", reason="MODEL_NOT_SUPPORTED")
