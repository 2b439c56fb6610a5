"""Drawing on Triton: when it is used, and its kernel in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import torch
from torch import Tensor

from infermesh_worker_xpu.attention import triton_attention
from infermesh_worker_xpu.sampling import drawing, triton_draw
from infermesh_worker_xpu.sampling.sampling_tensors import DrawTensors

if TYPE_CHECKING:
    from conftest import RunInterpreted, RunPython

HERE = Path(__file__).parent

COMPILE = """
import triton
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from infermesh_worker_xpu.sampling.triton_draw_kernels import draw_kernel
for kind, wide in (("fp64", tl.float64), ("fp32", tl.float32)):
    kinds = {"logits": "*fp32", "top_keys": "*i64", "floats": "*" + kind, "top_ks": "*i64", "tokens": "*i64"}
    constants = {"K": 64, "SUM": wide, "BLOCK": 1024}
    kinds |= {"rows": "i32", "vocab": "i32"} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(draw_kernel, kinds, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
    assert compiled.metadata.shared < 48 * 1024
"""


def test_the_kernel_under_the_interpreter(run_interpreted: RunInterpreted) -> None:
    run_interpreted(HERE / "test_triton_draw_kernels.py")


def test_the_kernel_compiles_for_cuda(tmp_path: Path, run_python: RunPython) -> None:
    """The interpreter accepts programs that the compiler refuses. Triton ships the assembler, so no GPU is needed."""
    pytest.importorskip("triton")
    run_python("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))


def test_a_kernel_that_fails_or_draws_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = triton_draw.trial_rows(torch.device("cpu"))
    monkeypatch.setattr(triton_attention, "available", lambda _: True)
    monkeypatch.setattr(triton_draw, "trial_rows", lambda _: rows)
    device = torch.device("meta")  # stands for an accelerator

    def broken(_logits: Tensor, _draws: DrawTensors) -> NoReturn:
        raise RuntimeError("no such instruction")

    def otherwise(logits: Tensor, draws: DrawTensors) -> Tensor:
        return drawing.draw(logits, draws) + 1

    def right(logits: Tensor, draws: DrawTensors) -> Tensor:
        return drawing.draw(logits, draws)

    for draw, says in ((broken, "no such instruction"), (otherwise, "other tokens")):
        monkeypatch.setattr(triton_draw, "draw", draw)
        assert triton_draw.choose_draw(device) is drawing.draw
        assert says in vars(caplog.records[-1])["reason"]
    monkeypatch.setattr(triton_draw, "draw", right)
    assert triton_draw.choose_draw(device) is right
    assert triton_draw.choose_draw(torch.device("cpu")) is drawing.draw
