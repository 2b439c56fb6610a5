"""A stream continued from an endpoint with a longer context is refused, never cut at a delivered token."""

from collections.abc import Callable
from typing import Any

import pytest

from infermesh_engine.requests.output import FinishReason
from infermesh_engine.requests.request import Continuation, GenerationRequest, StopConditions
from infermesh_runtime.errors import FailedPrecondition


def continued(tokens: int) -> GenerationRequest:
    generated = (Continuation(choice=0, token_ids=tuple(range(tokens)), finished=False),)
    stop = StopConditions(ignore_eos=True)
    return GenerationRequest(request_id="r", prompt_token_ids=(1, 2, 3, 4), seed=1, stop=stop, generated=generated)


@pytest.mark.parametrize("room", [{"context_length": 16}, {"num_blocks": 4, "block_size": 4}])
def test_more_than_fits_is_refused_and_what_just_fits_ends(
    make_bench: Callable[..., Any], room: dict[str, int]
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        make_bench(**room).engine.submit(continued(13))
    assert caught.value.reason == "CONTINUATION_TOO_LONG"
    ended = make_bench(**room).finish(continued(12))["r", 0]
    assert (ended.finished.finish_reason, ended.finished.completion_tokens) == (FinishReason.LENGTH, 12)
    assert ended.token_ids == ()
