"""Says whether a model gets a second graph for small steps, whose weights take memory once more. Knows no openvino."""

from typing import Literal

from infermesh_runtime import machine

SmallStepGraph = Literal["auto", "on", "off"]
_AUTO_SHARE = 16
"""`auto` makes the graph where the weights take at most one part in so many of the machine's memory."""


def is_wanted(setting: SmallStepGraph, weights_bytes: int) -> bool:
    """Whether the setting asks for the second graph of a model with so large weights."""
    if setting == "auto":
        return weights_bytes * _AUTO_SHARE <= machine.memory_total_bytes()
    return setting == "on"
