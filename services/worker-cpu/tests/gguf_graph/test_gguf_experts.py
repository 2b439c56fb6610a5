"""Mixtures of experts: only chosen experts are computed, from weights that stay quantised, and bit for bit alike."""

from pathlib import Path

import gguf
import numpy as np
import openvino as ov
import pytest
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from infermesh_runtime.errors import InvalidArgument
from infermesh_worker_cpu import graph
from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner, compile_properties
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

EXACT = OpenVinoOptions(numerics="exact", kv_cache_bytes=1 << 24, threads=1)


def imported(folder: Path, name: str, kind: Kind) -> NDArray[np.float64]:
    """Writes a recipe's file and its graph; returns the reference's log probabilities."""
    weights = write(folder / "model.gguf", RECIPES[name], kind=kind)
    save_graph(folder / "model.gguf", folder / "model.xml", lambda what, share: None)
    return log_probabilities(RECIPES[name], weights, IDS)


def expert_products(xml: Path, options: OpenVinoOptions) -> list[str]:
    """The types of the weights of each product of chosen experts, as the plugin computes it."""
    compiled = ov.Core().compile_model(graph.read(ov.Core(), xml), "CPU", compile_properties(options))
    nodes = compiled.get_runtime_model().get_ordered_ops()
    found = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "GatherMatmul"]
    return [node.input_value(1).get_element_type().get_type_name() for node in found]


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1], ids=lambda kind: kind.name)
def test_only_chosen_experts_are_computed_from_quantised_weights(kind: Kind, tmp_path: Path) -> None:
    expected = imported(tmp_path, "qwen3moe", kind)
    stored = "i8" if kind == Kind.Q8_0 else "u4"
    options = EXACT if kind == Kind.Q8_0 else OpenVinoOptions(kv_cache_bytes=1 << 24, threads=1)
    assert expert_products(tmp_path / "model.xml", options) == [stored] * (3 * RECIPES["qwen3moe"].layers)
    got = log_probabilities_of(OpenVinoRunner(tmp_path / "model.xml", EXACT))
    assert np.abs(got - expected).max() < 1e-3


@pytest.mark.parametrize("name", ["qwen2moe", "qwen3moe-fused-not-normalised"])
def test_chunks_change_no_bit_and_numbers_are_the_references(name: str, tmp_path: Path) -> None:
    expected = imported(tmp_path, name, Kind.F16)
    chunked, whole = (
        log_probabilities_of(OpenVinoRunner(tmp_path / "model.xml", EXACT), chunks) for chunks in ((70, 79, 1), (150,))
    )
    np.testing.assert_array_equal(chunked, whole)
    assert np.abs(whole - expected).max() < 1e-4


def test_an_experts_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, RECIPES["olmoe"])
    reader = gguf.GGUFReader(path, "r+")
    name = "blk.1.ffn_down_exps.weight"
    next(tensor for tensor in reader.tensors if tensor.name == name).data[...].reshape(-1)[3] = np.nan
    reader.data.flush()
    with pytest.raises(InvalidArgument, match=f"{name} has values that are NaN"):
        save_graph(path, tmp_path / "model.xml", lambda what, share: None)
