"""Each kind of decoder computes what its GGUF file says, compared with a reference in numpy."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

TOLERANCE = 1e-2


def difference(folder: Path, name: str, kind: Kind) -> float:
    """The largest difference of a log probability between the graph in exact numerics and the reference."""
    recipe = RECIPES[name]
    weights = write(folder / "model.gguf", recipe, kind=kind)
    save_graph(folder / "model.gguf", folder / "model.xml", lambda what, share: None)
    options = OpenVinoOptions(numerics="exact", kv_cache_bytes=1 << 24, threads=1)
    expected = log_probabilities(recipe, weights, IDS)
    assert expected.std() > 0.5  # else nothing could differ
    return float(np.abs(log_probabilities_of(OpenVinoRunner(folder / "model.xml", options)) - expected).max())


@pytest.mark.parametrize("name", RECIPES)
def test_log_probabilities_are_the_references(name: str, tmp_path: Path) -> None:
    assert difference(tmp_path, name, Kind.F16) < TOLERANCE


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_1, Kind.BF16], ids=lambda kind: kind.name)
def test_quantised_weights_add_nothing_to_the_files_own_error(kind: Kind, tmp_path: Path) -> None:
    assert difference(tmp_path, "llama-biases-own-head", kind) < TOLERANCE
