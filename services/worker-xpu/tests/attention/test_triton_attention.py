"""Paged attention on Triton: inputs it refuses, how it splits its work, and its kernels in a process of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from infermesh_worker_xpu.attention import triton_attention
from infermesh_worker_xpu.attention import triton_tiles as tiling

if TYPE_CHECKING:
    from conftest import RunInterpreted, RunPython

HERE = Path(__file__).parent


def test_kernels_under_the_interpreter(run_interpreted: RunInterpreted) -> None:
    run_interpreted(HERE / "test_triton_attention_kernels.py")
    run_interpreted(HERE / "test_triton_write_kv.py")


def test_kernels_compile_for_cuda_without_spilling(tmp_path: Path, run_python: RunPython) -> None:
    """The interpreter accepts programs that the compiler refuses. Triton ships the assembler, so no GPU is needed."""
    pytest.importorskip("triton")
    run_python(str(HERE / "compile_triton_attention.py"), TRITON_CACHE_DIR=str(tmp_path))


def test_a_machine_without_triton_imports_it_and_is_told_why(run_python: RunPython) -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from infermesh_worker_xpu.attention import triton_attention as attention\n"
        "import importlib.util, torch\n"
        "print(attention.available(torch.device('cpu')))"
    )
    printed = run_python("-c", code)
    assert "usable=False" in printed
    assert "not installed" in printed


def test_cpu_without_the_interpreter_is_not_available() -> None:
    available = triton_attention.available(torch.device("cpu"))
    assert not available
    assert available.reason


def arguments(**changes: Any) -> dict[str, Any]:
    cache = torch.zeros(2, 16, 2, 32)
    query = torch.zeros(1, 4, 32)
    given = {
        "query": query,
        "key_cache": cache,
        "value_cache": cache,
        "block_tables": torch.zeros(1, 2, dtype=torch.int32),
        "context_lens": torch.ones(1, dtype=torch.int32),
        "scale": 1.0,
        "sliding_window": None,
        "softcap": None,
        "out": torch.zeros_like(query),
    }
    return given | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.zeros(1, 3, 32)}, "3 heads cannot share 2"),
        ({"query": torch.zeros(1, 4, 64)}, "head size is 64"),
        ({"query": torch.zeros(1, 4, 32).bfloat16()}, "bfloat16"),
        ({"key_cache": torch.zeros(2, 2, 16, 32).transpose(1, 2)}, "contiguous"),
        ({"out": torch.zeros(2, 4, 32)}, "out is"),
        ({"query": torch.zeros(1, 32, 4).transpose(1, 2)}, "query's last dimension"),
        ({"context_lens": torch.ones(1, dtype=torch.int64)}, "context_lens must be"),
        ({"block_tables": torch.zeros(1, 2)}, "block_tables must be"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_launch(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        triton_attention.decode(**arguments(**changes))
    with pytest.raises(ValueError, match=message):
        triton_attention.prefill(**arguments(**changes), begins=torch.tensor([0, 1], dtype=torch.int32), max_new=1)


def test_nothing_to_do_is_done_without_a_launch() -> None:
    none = arguments(query=torch.zeros(0, 4, 32), out=torch.zeros(0, 4, 32))
    assert triton_attention.decode(**none).shape == (0, 4, 32)
    assert triton_attention.prefill(**none, begins=torch.zeros(2, dtype=torch.int32), max_new=0).shape == (0, 4, 32)


@pytest.mark.parametrize(
    ("programs", "context", "splits"),
    [
        (4, 8192, 64),  # one stream of TinyLlama's four KV heads on 132 multiprocessors
        (4, 512, 4),  # chunks have a minimum length
        (32, 8192, 16),  # eight streams
        (512, 8192, 1),  # the batch fills the device
        (1, 1, 1),
    ],
)
def test_splits_fill_the_device_and_keep_chunks_long(programs: int, context: int, splits: int) -> None:
    assert tiling.decode_splits(programs, context, processors=132) == splits


def test_rows_cover_the_heads_of_a_kv_head_and_no_more_than_the_table_allows() -> None:
    assert tiling.decode_tiles("cuda", 128, 2, group=1).rows == 16
    assert tiling.decode_tiles("cuda", 64, 2, group=20).rows == 32
    assert tiling.decode_tiles("cuda", 64, 2, group=71).rows == 64


def test_xpu_has_twice_the_warps_as_they_have_half_the_lanes() -> None:
    assert tiling.prefill_tiles("xpu", 128, 2, 4096).warps == 2 * tiling.prefill_tiles("cuda", 128, 2, 4096).warps


def test_a_short_prefill_takes_small_tiles() -> None:
    assert tiling.prefill_tiles("cuda", 128, 2, max_rows=8).rows == tiling.SMALL_PREFILL_ROWS
    assert tiling.prefill_tiles("cuda", 128, 2, max_rows=33).rows > tiling.SMALL_PREFILL_ROWS
