"""Reads the arrays that `infermesh infer` takes, from .npy and JSON files, and saves those that it gives."""

import json
import sys
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array, numpy_dtype, type_name

STDIN = "-"
_DAMAGED = (
    *(OSError, EOFError, ValueError, OverflowError, TypeError, SyntaxError, RecursionError, MemoryError),
    *(zipfile.BadZipFile, tokenize.TokenError),
)
"""What numpy and json raise for files that are missing, damaged, or that declare more than there is."""
_FLOAT_KINDS = "fV"
"""Floating-point types; those of ml_dtypes have the kind V."""


def read_array(name: str, file: str, dtype: DataType | None) -> Array:
    """An input. JSON has no types: its numbers get the type that the model takes. Raises InvalidArgument."""
    try:
        if file != STDIN and not file.endswith(".json"):
            return _with_texts_checked(_load(Path(file)))
        value = json.loads(sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8"))
        return _with_texts_checked(_from_json(value, dtype))
    except _DAMAGED as error:
        why = str(error) or "it ends too early"
        raise InvalidArgument(f"--input {name}={file}: cannot be read: {why}", fields={"inputs": name}) from error


def save_array(name: str, file: str, array: Array) -> None:
    """Saves an output as a .npy file. Raises InvalidArgument when that cannot be written."""
    try:
        np.save(file, array, allow_pickle=False)
    except (OSError, ValueError) as error:  # ValueError: an array of objects, which BYTES are
        raise InvalidArgument(f"--output {name}={file}: cannot be written: {error}") from error


def _load(file: Path) -> Array:
    with file.open("rb") as opened:
        loaded = np.load(opened, allow_pickle=False)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        raise TypeError("it holds several arrays; expected a .npy file, which holds one")
    array: Array = loaded
    return array


def _with_texts_checked(array: Array) -> Array:
    """The array. Raises ValueError for texts that UTF-8 cannot hold, which JSON and numpy can."""
    if array.dtype.kind in "OU":
        for text in array.flat:
            if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError(f"{text!a} is no text: it holds half a pair of surrogates")
    return array


def _from_json(value: Any, dtype: DataType | None) -> Array:
    """Raises ValueError for what is no array, and for numbers that the type cannot hold."""
    exact = np.array(value, object)
    kinds = {type(each) for each in exact.flat}
    if kinds - {int, float, bool, str}:
        raise ValueError("expected numbers or texts, in lists of equal lengths")
    if str in kinds and len(kinds) > 1:
        raise ValueError("it mixes texts and numbers")
    if dtype == DataType.DATA_TYPE_BYTES:
        if kinds - {str}:
            raise ValueError("the model takes texts (BYTES), not numbers")
        return exact
    if str in kinds and dtype is not None:
        raise ValueError(f"the model takes numbers ({type_name(dtype)}), not texts")
    return np.array(value) if dtype is None else _converted(exact, dtype)


def _converted(exact: Array, dtype: DataType) -> Array:
    """Rounds to floating-point types; other types must hold every number as it is."""
    wanted = numpy_dtype(dtype)
    is_float = wanted.kind in _FLOAT_KINDS
    try:
        given = exact.astype(np.float64) if is_float else exact
        with np.errstate(all="ignore"):
            made: Array = given.astype(wanted)
    except OverflowError as error:
        raise ValueError(f"a number does not fit in {type_name(dtype)}: {error}") from None
    if is_float:
        back = made.astype(np.float64)
        lost = (np.isinf(back) != np.isinf(given)) | (np.isnan(back) != np.isnan(given))
    else:
        lost = np.asarray(made.astype(object) != exact, bool)
    if lost.any():
        raise ValueError(f"{exact[lost][0]} does not fit in {type_name(dtype)}, which the model takes")
    return made
