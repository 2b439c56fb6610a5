"""Says which tensors an OpenVINO model takes and gives: names, types and shapes, from the model itself."""

from collections.abc import Sequence
from typing import Any

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.model_kind import ANY, TensorSpec

from .types import type_name


def inputs_of(model: ov.Model | ov.CompiledModel) -> tuple[TensorSpec, ...]:
    """The inputs, in the model's order. Raises FailedPrecondition for one that cannot be served."""
    return _specs(model.inputs, "input")


def outputs_of(model: ov.Model | ov.CompiledModel) -> tuple[TensorSpec, ...]:
    """The outputs, in the model's order. Raises FailedPrecondition for one that cannot be served."""
    return _specs(model.outputs, "output")


def _specs(ports: Sequence[Any], what: str) -> tuple[TensorSpec, ...]:
    specs = tuple(_spec(port, f"{what}_{index}") for index, port in enumerate(ports))
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise FailedPrecondition(f"the model has two {what}s of one name: {names}", reason="MODEL_NOT_SUPPORTED")
    return specs


def _spec(port: Any, default: str) -> TensorSpec:
    names = sorted(port.get_names(), key=lambda name: ("/" in name, -len(name), name))
    name = names[0] if names else default  # of several, the one that says most and is no path in the graph
    shape = port.get_partial_shape()
    dimensions = None if shape.rank.is_dynamic else tuple(ANY if d.is_dynamic else d.get_length() for d in shape)
    return TensorSpec(name, type_name(port.get_element_type(), name), dimensions)
