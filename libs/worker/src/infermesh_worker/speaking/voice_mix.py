"""The styles of a voice, or of several joined by "+", whose mean is taken."""

from collections.abc import Mapping

import numpy as np

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array

JOINED = "+"


def mixed(voices: Mapping[str, Array], wanted: str) -> Array:
    """FP32 [510, 256]: a style for each number of phonemes. Raises InvalidArgument for a voice that is not there."""
    names = [name.strip() for name in wanted.split(JOINED)]
    for name in names:
        if name not in voices:
            problem = f"there is no voice {name!r}; the model has {', '.join(voices)}"
            raise InvalidArgument(f"voice: {problem}", fields={"voice": problem})
    if len(names) == 1:
        return voices[names[0]]
    found: Array = np.stack([voices[name] for name in names]).mean(axis=0)
    return found
