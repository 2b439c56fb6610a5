"""Arrays that `infermesh infer` reads and saves: numbers that do not fit, and files that hold none."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_client.cli.tensors.arrays import read_array, save_array
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array, named_type


def read(folder: Path, text: str, dtype: str | None) -> Array:
    file = folder / "x.json"
    file.write_text(text)
    return read_array("x", str(file), None if dtype is None else getattr(DataType, f"DATA_TYPE_{dtype}"))


@pytest.mark.parametrize(
    ("text", "dtype", "words"),
    [
        ("[300, -1]", "UINT8", "300"),
        ("[1, -1]", "UINT8", "-1"),
        ("[1.7]", "INT64", "1.7 does not fit in INT64"),
        ("[NaN]", "INT32", "NaN"),
        ("[1e30]", "INT64", "INT64"),
        ("[9223372036854775808, -1]", "INT64", "fit in INT64"),
        ("[2]", "BOOL", "2 does not fit in BOOL"),
        ("[1e300]", "FP16", "does not fit in FP16"),
        ("[1e300]", "FP8_E4M3", "does not fit in FP8_E4M3"),
        ("[Infinity]", "FP8_E4M3", "inf does not fit in FP8_E4M3"),
        (r'["\ud800"]', "BYTES", "no text"),
        (r'["\ud800"]', None, "no text"),
        ('{"a": 1}', "FP32", "expected numbers"),
        ('{"a": 1}', None, "expected numbers"),
        ("[null]", None, "expected numbers"),
        ("[[1, 2], [3]]", "INT64", "equal lengths"),
        ('["5"]', "INT64", "takes numbers"),
        ('["a", 1]', None, "mixes"),
        ("[5]", "BYTES", "takes texts"),
        ("[" * 100_000, "FP32", "cannot be read"),
        ("", "FP32", "cannot be read"),
    ],
)
def test_json_that_does_not_fit_is_refused(tmp_path: Path, text: str, dtype: str | None, words: str) -> None:
    with pytest.raises(InvalidArgument, match=r"--input x=.*: cannot be read: .+") as caught:
        read(tmp_path, text, dtype)
    assert words.lower() in caught.value.message.lower()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([[255, 0]], "UINT8"),
        ([1.0, True], "INT64"),
        ([2**64 - 1], "UINT64"),
        ([9007199254740993], "INT64"),
        ([True, 0], "BOOL"),
        ([0.5, 16777216], "FP32"),
        ([], "FP32"),
        (3, "INT32"),
        ([float("inf")], "FP16"),
    ],
)
def test_json_that_fits_is_taken(tmp_path: Path, value: object, dtype: str) -> None:
    array = read(tmp_path, json.dumps(value), dtype)
    assert array.dtype == named_type(dtype)
    assert array.tolist() == value


def test_json_has_the_types_of_numpy_for_a_model_that_is_not_known(tmp_path: Path) -> None:
    assert read(tmp_path, "[1, 2]", None).dtype == np.int64
    assert read(tmp_path, '["a"]', None).dtype.kind == "U"
    assert read(tmp_path, '[["a"], ["b"]]', "BYTES").tolist() == [["a"], ["b"]]


def _npy(array: Array) -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def _npz() -> bytes:
    written = io.BytesIO()
    np.savez(written, a=np.zeros(1), b=np.zeros(1))
    return written.getvalue()


def _huge() -> bytes:
    return _npy(np.zeros(8)).replace(b"(8,), }               ", b"(8000000000000000,), }")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"PK\x03\x04", b"\x93NUMPY", _npz(), _npz()[:40], _npy(np.zeros(9))[:-8], _huge()),
        _npy(np.zeros(8)).replace(b"'fortran_order'", b"'fortran_orde(("),
        _npy(np.array([{}], object)),
        _npy(np.array(["\ud800"])),
    ],
)
def test_files_that_hold_no_array_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.npy"
    file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"--input x=.*: cannot be read: .+"):
        read_array("x", str(file), None)


def test_an_empty_zip_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w"):
        pass
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_array("x", str(tmp_path / "x.npz"), None)


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"--output y=.*: cannot be written: .*No such file"):
        save_array("y", str(tmp_path / "none" / "y.npy"), np.zeros(1))
    with pytest.raises(InvalidArgument, match="cannot be written"):
        save_array("y", str(tmp_path / "y.npy"), np.array([b"text"], object))
    save_array("y", str(tmp_path / "y.npy"), np.ones(1))
    assert np.load(tmp_path / "y.npy").tolist() == [1]
