"""worker-cpu and worker-xpu give the same tokens for any GGUF file, in exact numerics (docs/decisions/0013)."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import CONTEXT, write
from tests.gguf_files.running import log_probabilities_of

KV_CACHE_BYTES = 8 << 20


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama-part-of-the-head", Kind.F16),
        ("llama-window", Kind.Q4_1),
        ("phi3", Kind.Q8_0),
        ("smollm3", Kind.F16),
        ("granite", Kind.Q4_0),
        ("olmo3", Kind.F16),
        ("gemma2-capped", Kind.Q4_0),
        ("llama-experts", Kind.Q8_0),
        ("qwen3moe", Kind.F16),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_both_workers_choose_the_same_tokens(name: str, kind: Kind, tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES[name], kind=kind)
    save_graph(tmp_path / "model.gguf", tmp_path / "model.xml", lambda what, share: None)
    cpu = OpenVinoRunner(
        tmp_path / "model.xml", OpenVinoOptions(numerics="exact", kv_cache_bytes=KV_CACHE_BYTES, threads=1)
    )
    xpu = load_runner(
        tmp_path,
        TorchOptions(device="cpu", numerics="exact", kv_cache_bytes=KV_CACHE_BYTES, context_length=CONTEXT, threads=1),
    )
    ours, theirs = log_probabilities_of(xpu), log_probabilities_of(cpu)
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))
    assert np.abs(ours - theirs).max() < 1e-2
