"""Says which tensors an OpenVINO model takes and gives: names, types and shapes, from the model itself."""

from collections.abc import Sequence
from typing import Any

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec

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
    name = _own_name(port) or default
    shape = port.get_partial_shape()
    dimensions = None if shape.rank.is_dynamic else tuple(ANY if d.is_dynamic else d.get_length() for d in shape)
    return TensorSpec(name, type_name(port.get_element_type(), name), dimensions)


def _own_name(port: Any) -> str | None:
    """What the model's file calls it; None: nothing.

    Compiling gives a tensor the names of others that hold the same, as of casts that are left out. Its node keeps its
    own, which TensorFlow ends with ":0". Where that is no name of the tensor, it is the one that says most and is no
    path in the graph.
    """
    names = port.get_names()
    own = port.get_node().get_friendly_name().partition("/sink_port_")[0]
    for name in (f"{own}:0", own):
        if name in names:
            return name
    return min(names, key=lambda name: ("/" in name, -len(name), name), default=None)
