"""Recognises rows of logits from which no token can be chosen, because the model computes NaN or infinity."""

import numpy as np

from infermesh_engine.runners.runner import Logits
from infermesh_runtime.errors import Internal

LOGITS_NOT_FINITE = "LOGITS_NOT_FINITE"
"""Reason of the errors of a model that computes NaN or infinity."""


class BrokenLogitsError(Exception):
    """A sequence's logits are not finite; takes the place of its token."""

    def named(self, model: str) -> Internal:
        """The error that the client gets, with the model's name."""
        return Internal(
            f"Model {model!r} computes logits that are not finite (NaN or infinity) for this prompt, so there is no "
            "next token. Its weights may be damaged, or its precision too low for it.",
            reason=LOGITS_NOT_FINITE,
            metadata={"model": model},
        )


def broken_rows(logits: Logits) -> frozenset[int]:
    """The rows whose largest logit is not finite; nearly always none."""
    finite = np.isfinite(logits.top_logits[:, 0])
    return frozenset() if finite.all() else frozenset(np.flatnonzero(~finite).tolist())
