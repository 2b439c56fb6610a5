"""What a waiting call costs its client."""

from infermesh_router.admission.pending_call import cost_tokens
from infermesh_router.policy.model_load import EXPECTED_OUTPUT_TOKENS
from infermesh_router.policy.snapshot import Wanted


def test_what_a_request_counts_for() -> None:
    assert cost_tokens(Wanted(prompt_tokens=100, max_tokens=8, sequences=2)) == 116
    assert cost_tokens(Wanted(prompt_tokens=100)) == 100 + EXPECTED_OUTPUT_TOKENS
    assert cost_tokens(Wanted(max_tokens=10**6)) == EXPECTED_OUTPUT_TOKENS
