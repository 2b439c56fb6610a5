"""The Triton kernel draws the same tokens as sorting. test_triton_draw runs this file in its own process."""

import os

import pytest

# Triton chooses its interpreter when it is imported, so this file has tests only in the process that sets it.
__test__ = os.environ.get("TRITON_INTERPRET") == "1"

if __test__:
    import torch

    from infermesh_worker_xpu.sampling import drawing, triton_draw
    from infermesh_worker_xpu.sampling.sampling_tensors import DrawTensors

CPU = "cpu"


def test_the_trial_of_loading_agrees() -> None:
    logits, draws = triton_draw.trial_rows(torch.device(CPU))
    drawn = triton_draw.draw(logits, draws)
    assert torch.equal(drawn, drawing.draw(logits, draws))
    assert len(set(drawn.tolist())) > 6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # from numpy, for rows that are all excluded or NaN
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("vocab", [65, 1024, 2500])
def test_rows_with_equals_and_excluded_tokens(vocab: int, dtype: str) -> None:
    torch.manual_seed(vocab)
    logits = torch.randint(-3, 3, (10, vocab)).float()
    logits[2] = -0.0
    logits[2, ::2] = 0.0
    logits[5:, 7:] = float("-inf")
    logits[9] = float("-inf")
    logits[8, 3] = float("nan")
    logits[6] = torch.linspace(0, 30, vocab)
    wide = getattr(torch, dtype)
    count = len(logits)
    floats = torch.stack(
        [
            torch.full((count,), 1.0),
            torch.tensor([1.0, 0.7] * 5),
            torch.tensor([0.0, 0.0, 0.3, 0.0, 1.0] * 2),
            torch.tensor([0.13, 0.999, 0.501, 0.77, 0.0, 0.31, 0.5, 0.93, 0.05, 0.66]),
        ]
    ).to(wide)
    at = torch.arange(count)
    draws = DrawTensors(rows=at, floats=floats, top_k=torch.tensor([0, 0, 66, 0, 1000] * 2), open_rows=at)
    assert torch.equal(triton_draw.draw(logits, draws), drawing.draw(logits, draws))
