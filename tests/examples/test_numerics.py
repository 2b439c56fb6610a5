"""Real models on both kinds of worker: outputs are the runtime's own, bit for bit, for 50 random inputs each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker_cpu.build import build as build_cpu

NAMES = ("ocr-letters", "silero-vad")
INPUTS = 50


def random_inputs(name: str) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(5)
    for number in range(INPUTS):
        if name == "ocr-letters":
            shape = (1 + number % 2, 3, 48, 32 * (2 + number % 4))
            yield {"x": random.uniform(-1, 1, shape).astype(np.float32)}
        else:
            yield {
                "input": random.uniform(-1, 1, (1, 576)).astype(np.float32),
                "sr": np.array(16_000),
                "state": random.standard_normal((2, 1, 128)).astype(np.float32),
            }


def answers(made: object, given: dict[str, Array]) -> dict[str, Array]:
    assert isinstance(made, BuiltExecutor)
    (outcome,) = made.executor.run([Item(tensors=given)])
    assert isinstance(outcome, Result)
    return {name: array.copy() for name, array in outcome.tensors.items()}


def graph_of(models: Path, name: str) -> Path:
    return next((models / name / "model").glob("*.onnx"))


@pytest.mark.parametrize("name", NAMES)
def test_worker_cpu_gives_what_openvino_gives(models: Path, name: str) -> None:
    made = build_cpu({"folder": str(models / name), "verify": "never", "numerics": "fast", "threads": 1})
    assert isinstance(made, BuiltExecutor)
    hint = "LATENCY" if made.limits.max_size > 1 else "THROUGHPUT"
    properties = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": 1}
    directly = ov.compile_model(graph_of(models, name), "CPU", properties)
    for given in random_inputs(name):
        expected = directly(given)
        for place, (output, array) in enumerate(answers(made, given).items()):
            assert np.array_equal(array, expected[directly.outputs[place]]), output


@pytest.mark.parametrize("name", NAMES)
def test_worker_xpu_gives_what_onnxruntime_gives(models: Path, name: str) -> None:
    pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    from infermesh_worker_xpu.build import build as build_xpu

    made = build_xpu(
        {"folder": str(models / name), "verify": "never", "device": "cpu", "device_index": 0, "threads": 1}
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    directly = onnxruntime.InferenceSession(graph_of(models, name), options, providers=["CPUExecutionProvider"])
    for given in random_inputs(name):
        expected = directly.run(None, given)
        for array, wanted in zip(answers(made, given).values(), expected, strict=True):
            assert np.array_equal(array, wanted)
