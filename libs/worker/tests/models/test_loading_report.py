"""What a load by transformers reports is refused when weights are missing, left over or wrong."""

import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.loading_report import check_loaded


def test_a_whole_load_passes() -> None:
    check_loaded({"missing_keys": set(), "unexpected_keys": set(), "error_msgs": []})


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ({"missing_keys": {"norm.weight"}}, "its files lack the tensor norm.weight"),
        ({"missing_keys": {"b", "a"}}, "its files lack 2 tensors such as a"),
        ({"unexpected_keys": {"q_proj.bias"}}, "hold the tensor q_proj.bias, which its configuration has no use for"),
        ({"error_msgs": ["size mismatch"]}, "do not fit: size mismatch"),
    ],
)
def test_what_is_wrong_is_named(report: dict[str, set[str]], problem: str) -> None:
    with pytest.raises(FailedPrecondition, match=problem):
        check_loaded(report)
