"""The outputs that the graph adds for the sampler agree with the full rows of logits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from infermesh_engine.runners.runner import Batch
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness
from infermesh_worker_cpu.build_model import build_model
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner, compile_properties
from infermesh_worker_cpu.settings import WorkerCpuSettings


def prefill(rows: int, temperatures: list[float]) -> Batch:
    """One sequence of eight tokens in block 0, with logits for the last `rows` tokens."""
    return Batch(
        token_ids=np.arange(300, 308),
        positions=np.arange(8),
        past_lens=np.zeros(1, np.int32),
        begins=np.array([0, 8], np.int32),
        blocks=np.zeros(1, np.int32),
        block_begins=np.array([0, 1], np.int32),
        max_context_tokens=8,
        rows=np.arange(8 - rows, 8, dtype=np.int32),
        inverse_temperatures=np.array(temperatures, np.float32),
    )


def test_candidates_and_sums_agree_with_the_whole_row(fast_model: BuiltModel) -> None:
    logits = fast_model.runner.run(prefill(3, [1.0, 2.0, 0.5]))
    for index, inverse_temperature in enumerate((1.0, 2.0, 0.5)):
        row = logits.row(index).astype(np.float64)
        order = np.lexsort((np.arange(len(row)), -row))[:64]
        assert np.array_equal(logits.top_logits[index], row[order])
        # Which of several equal logits is the 64th is open; all others are ordered by id.
        decided = row[order] > row[order[-1]]
        assert np.array_equal(logits.top_ids[index][decided], order[decided])
        assert logits.logsumexp[index] == pytest.approx(np.logaddexp.reduce(row), abs=1e-3)
        scaled = np.logaddexp.reduce(row * inverse_temperature)
        assert logits.scaled_logsumexp[index] == pytest.approx(scaled, abs=1e-3)


def test_info_tells_the_models_and_the_machines_figures(fast_model: BuiltModel, exact_model: BuiltModel) -> None:
    info = fast_model.runner.info
    assert (info.device_kind, info.vocab_size, info.context_length, info.block_size) == ("cpu", 49152, 8192, 32)
    assert info.runtime.startswith("openvino 20")
    assert info.min_run_tokens == 1
    assert exact_model.runner.info.min_run_tokens == 2
    # u8 keeps about four times as many tokens as f32 in the same memory.
    assert 3 < info.num_blocks / exact_model.runner.info.num_blocks < 4


def test_the_kv_cache_follows_max_sequences_when_no_size_is_given(default_model: Path) -> None:
    xml = default_model / "openvino" / "openvino_model.xml"
    runner = OpenVinoRunner(xml, OpenVinoOptions(max_sequences=2, context_length=640))
    assert runner.info.num_blocks == 2 * 20
    runner.close()


@pytest.mark.parametrize(("dtype", "element_bytes"), [("u8", 1), ("f16", 2), ("f32", 4)])
def test_every_kv_precision_runs(
    default_model: Path, harness_of: Callable[..., Harness], dtype: str, element_bytes: int
) -> None:
    model = build_model({"folder": str(default_model), "kv_cache_bytes": 64 << 20, "kv_cache_dtype": dtype})
    try:
        per_block = (64 << 20) / model.runner.info.num_blocks
        # 30 layers of keys and values, 3 heads of 64 elements, 32 tokens; u8 keeps scales beside its elements.
        assert per_block == pytest.approx(30 * 2 * 3 * 64 * 32 * element_bytes, rel=0.25)
        harness = harness_of(model, max_sequences=4, max_batched_tokens=32)
        text = "One, two, three, four, five, six, seven, eight, nine, ten, one, two, three, four, five, six,"
        (tokens,) = harness.tokens(harness.request("count", text, tokens=2)).values()
        assert harness.tokenizer.decode(list(tokens)) == " seven,"
    finally:
        model.runner.close()


def test_a_kv_cache_without_room_for_a_block_is_refused(default_model: Path) -> None:
    with pytest.raises(FailedPrecondition, match="too small: one block of"):
        build_model({"folder": str(default_model), "kv_cache_bytes": 1000})


def test_a_kv_cache_larger_than_the_machine_is_refused(default_model: Path) -> None:
    with pytest.raises(FailedPrecondition, match="does not fit in this machine's memory"):
        build_model({"folder": str(default_model), "kv_cache_bytes": 1 << 50})


def test_exact_refuses_a_quantised_kv_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_NUMERICS", "exact")
    assert compile_properties(OpenVinoOptions(numerics="exact"))["KV_CACHE_PRECISION"] == "f32"
    monkeypatch.setenv("INFERMESH_KV_CACHE_DTYPE", "u8")
    with pytest.raises(ValidationError, match="keeps its KV cache in f32"):
        WorkerCpuSettings.model_validate({})


def test_a_model_folder_without_a_graph_says_what_to_do(default_model: Path, tmp_path: Path) -> None:
    import shutil

    import msgspec

    copied = tmp_path / "bare"
    copied.mkdir()
    for path in default_model.iterdir():
        if path.is_file():
            shutil.copy(path, copied / path.name)
    manifest = msgspec.json.decode((copied / "infermesh.json").read_bytes())
    manifest["files"] = {k: v for k, v in manifest["files"].items() if not k.startswith("openvino/")}
    (copied / "infermesh.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(FailedPrecondition, match="import the model again where worker-cpu is installed"):
        build_model({"folder": str(copied)})
