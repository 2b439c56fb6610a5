"""worker-xpu computes what a GGUF file says, compared with a reference in numpy, or refuses the file by name."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.gguf_account.account import Account, make_account
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.gguf_decoder import decoder
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import CONTEXT, Recipe, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

Numerics = Literal["fast", "exact"]


def runner_of(folder: Path, numerics: Numerics = "fast") -> TorchRunner:
    options = TorchOptions(
        device="cpu", dtype="fp32", numerics=numerics, kv_cache_bytes=8 << 20, context_length=CONTEXT, threads=1
    )
    return load_runner(folder, options)


def check(folder: Path, name: str, kind: Kind = Kind.F16, numerics: Numerics = "fast") -> None:
    """Compares log probabilities with the reference's.

    They are within 1e-4. But some tokens of these random models amplify float32's rounding up to ten times.
    """
    weights = write(folder / "model.gguf", RECIPES[name], kind=kind)
    expected = log_probabilities(RECIPES[name], weights, IDS)
    assert expected.std() > 0.5  # else nothing could differ
    difference = np.abs(log_probabilities_of(runner_of(folder, numerics)) - expected)
    assert np.median(difference.max(1)) < 1e-4
    assert difference.max() < 1e-3


@pytest.mark.parametrize("name", RECIPES)
def test_log_probabilities_are_the_references(name: str, tmp_path: Path) -> None:
    check(tmp_path, name)


@pytest.mark.parametrize("name", ["llama-biases-own-head", "gemma2", "qwen2moe"])
def test_exact_numerics_hold_for_them(name: str, tmp_path: Path) -> None:
    check(tmp_path, name, numerics="exact")


@pytest.mark.parametrize("kind", [Kind.F32, Kind.BF16, Kind.Q8_0, Kind.Q4_1, Kind.Q5_0], ids=lambda kind: kind.name)
def test_quantised_weights_add_nothing_to_the_files_own_error(kind: Kind, tmp_path: Path) -> None:
    check(tmp_path, "llama-biases-own-head", kind)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["llama"], keys={"attention.something_new": 1})
    with pytest.raises(InvalidArgument, match=re.escape("attention.something_new")):
        runner_of(tmp_path)


def test_an_architecture_without_account_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", Recipe(architecture="falcon"))
    with pytest.raises(FailedPrecondition, match="falcon"):
        runner_of(tmp_path)


def test_a_tensor_that_the_decoder_leaves_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model.gguf", RECIPES["gemma2"])
    file = GgufFile(tmp_path / "model.gguf")
    spec = make_account(file.contents).spec
    without = replace(spec, layers=tuple(replace(layer, mlp_post_norm=None) for layer in spec.layers))
    monkeypatch.setattr(decoder, "account_of", lambda _file: Account(without, frozenset(), frozenset()))
    with pytest.raises(FailedPrecondition, match=re.escape("blk.0.post_ffw_norm.weight")):
        runner_of(tmp_path)
