"""The error tree, which does not import gRPC."""

import pickle
import subprocess
import sys

import pytest

from infermesh_runtime import errors
from infermesh_runtime.errors import Code


@pytest.mark.parametrize("code", [c for c in Code if c is not Code.OK])
def test_every_code_survives_from_code(code: Code) -> None:
    error = errors.from_code(code, "words")
    assert error.code is code
    assert error.message == str(error) == "words"
    assert error.reason


def test_reason_picks_the_specific_class_only_with_its_code() -> None:
    assert type(errors.from_code(5, "x", reason="MODEL_NOT_FOUND")) is errors.ModelNotFound
    other = errors.from_code(14, "x", reason="MODEL_NOT_FOUND")
    assert type(other) is errors.Unavailable
    assert other.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("code", [0, -1, 17, 999])
def test_no_error_for_ok_and_unknown_numbers(code: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its type is the contract
        errors.from_code(code, "x")


def test_details_are_kept_and_pickled() -> None:
    error = errors.ContextLengthExceeded("long", metadata={"a": "1"}, fields={"f": "d"}, retry_after_s=2)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.reason, copy.metadata, copy.fields, copy.retry_after_s, copy.message) == (
        Code.INVALID_ARGUMENT,
        "CONTEXT_LENGTH_EXCEEDED",
        {"a": "1"},
        {"f": "d"},
        2,
        "long",
    )


def test_import_needs_no_dependency() -> None:
    script = "import sys, infermesh_runtime.errors; sys.exit(bool({'grpc', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
