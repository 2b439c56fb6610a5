"""Either of tritonclient's clients, over gRPC or HTTP, and what tests ask of both."""

from typing import Any

import ml_dtypes
import numpy as np
from tritonclient.utils import np_to_triton_dtype

X = np.arange(8, dtype=np.float32).reshape(2, 4)
WAIT_S = 30
TYPES = [
    *("BOOL", "BYTES", "BF16", "FP16", "FP32", "FP64"),
    *(f"{u}INT{n}" for u in ("", "U") for n in (8, 16, 32, 64)),
]


class Kind:
    """One of the two clients, with its module."""

    def __init__(self, module: Any, address: str) -> None:
        self.module = module
        self.client = module.InferenceServerClient(address)

    def input(self, name: str, array: np.ndarray, datatype: str = "", **options: Any) -> Any:
        made = self.module.InferInput(name, list(array.shape), datatype or _type_of(array))
        made.set_data_from_numpy(array, **options)
        return made


def _type_of(array: np.ndarray) -> str:
    return str(np_to_triton_dtype(array.dtype))


def sample(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([["", "grüß"], ["a" * 300, "\0"]], object)
    if datatype == "BF16":
        return np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    numpy_type = {"BOOL": "?", "FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(datatype)
    if numpy_type is None:
        limits = np.iinfo(datatype.lower())
        return np.array([[limits.min, 0, limits.max]], datatype.lower())
    return np.array([[0, 1, 1]], numpy_type)


def same(found: np.ndarray, given: np.ndarray) -> bool:
    if given.dtype != np.object_:
        return found.dtype == given.dtype and np.array_equal(found, given)
    texts = [each.decode() if isinstance(each, bytes) else each for each in found.ravel()]
    return found.shape == given.shape and texts == list(given.ravel())


def field(answer: Any, name: str) -> Any:
    """A field of an answer, which is a message over gRPC and a dict over HTTP."""
    return answer[name] if isinstance(answer, dict) else getattr(answer, name)
