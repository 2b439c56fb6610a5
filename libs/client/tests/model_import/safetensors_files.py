"""Writes tiny safetensors files, as bytes or as text, for tests that need no values in them."""

import json
from collections.abc import Mapping, Sequence
from math import prod

_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I32": 4, "U8": 1}


def safetensors(shapes: Mapping[str, Sequence[int]], dtype: str = "F32") -> bytes:
    """A file with tensors of zeros, all of one type."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


WEIGHTS = safetensors({"w": [2]}).decode()
"""The smallest model there is, as text."""
