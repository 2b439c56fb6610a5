"""worker-xpu computes what a GGUF file says, compared with a reference in numpy, or refuses the file by name."""

import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import CONTEXT, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

TOLERANCE = 1e-4


def runner_of(folder: Path) -> TorchRunner:
    options = TorchOptions(device="cpu", dtype="fp32", numerics="exact", kv_cache_bytes=8 << 20, context_length=CONTEXT)
    return load_runner(folder, options)


def difference(folder: Path, name: str, kind: Kind) -> float:
    """The largest difference of a log probability between worker-xpu in exact numerics and the reference."""
    weights = write(folder / "model.gguf", RECIPES[name], kind=kind)
    expected = log_probabilities(RECIPES[name], weights, IDS)
    assert expected.std() > 0.5  # else nothing could differ
    return float(np.abs(log_probabilities_of(runner_of(folder)) - expected).max())


@pytest.mark.parametrize("name", RECIPES)
def test_log_probabilities_are_the_references(name: str, tmp_path: Path) -> None:
    assert difference(tmp_path, name, Kind.F16) < TOLERANCE


@pytest.mark.parametrize("kind", [Kind.F32, Kind.BF16, Kind.Q8_0, Kind.Q4_1, Kind.Q5_0], ids=lambda kind: kind.name)
def test_quantised_weights_add_nothing_to_the_files_own_error(kind: Kind, tmp_path: Path) -> None:
    assert difference(tmp_path, "llama-biases-own-head", kind) < TOLERANCE


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["llama"], keys={"attention.something_new": 1})
    with pytest.raises(InvalidArgument, match=re.escape("attention.something_new")):
        runner_of(tmp_path)
