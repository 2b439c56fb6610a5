"""What an IR's runtime information says of its attention: each layer's window, and the soft cap of its scores."""

from collections.abc import Sequence

import openvino as ov

WINDOWS = ("infermesh", "attention_windows")
"""Each layer's window: numbers of tokens with spaces between, 0 for all."""
SOFT_CAP = ("infermesh", "attention_soft_cap")
"""The soft cap of all layers' scores; absent where they have none. ScaledDotProductAttention cannot say it."""


def mark(model: ov.Model, windows: Sequence[int], soft_cap: float) -> None:
    """Writes both into the runtime information. `soft_cap`: 0 for none."""
    model.set_rt_info(" ".join(map(str, windows)), list(WINDOWS))
    if soft_cap:
        model.set_rt_info(repr(soft_cap), list(SOFT_CAP))


def windows_of(model: ov.Model) -> list[int] | None:
    """The window of each layer; None if the IR does not say."""
    if not model.has_rt_info(list(WINDOWS)):
        return None
    return [int(window) for window in model.get_rt_info(list(WINDOWS)).astype(str).split()]


def soft_cap_of(model: ov.Model) -> float:
    """The soft cap, or 0."""
    return float(model.get_rt_info(list(SOFT_CAP)).astype(str)) if model.has_rt_info(list(SOFT_CAP)) else 0.0
