"""Compiles a model's second graph, which computes steps of few tokens faster on processors that compute in bf16."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov

from . import graph
from .small_steps.products import quantised_share
from .small_steps.whole_zeros import rewrite
from .step_graph import StepGraph

SMALL_STEP_TOKENS = 32
"""Most new tokens of a step that runs on the second graph (docs/decisions/0019-small-steps.md)."""
_LEAST_SHARE = 0.9
"""Least share of quantised weights for which whole numbers pay: others are multiplied in f32, which is slower."""


def small_step_graph(
    core: ov.Core, xml: Path, compiled: ov.CompiledModel, properties: Mapping[str, Any]
) -> StepGraph | None:
    """The second graph, in f32 with quantised activations; None where it would not be faster.

    `compiled` and `properties`: the first graph, and what it was compiled with.
    """
    if compiled.get_property("INFERENCE_PRECISION_HINT") != ov.Type.bf16:
        return None
    model = graph.read(core, xml)
    if quantised_share(model) < _LEAST_SHARE:
        return None
    rewrite(model)
    return StepGraph(core.compile_model(model, "CPU", {**properties, "INFERENCE_PRECISION_HINT": "f32"}))
