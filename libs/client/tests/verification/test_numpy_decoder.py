"""The reference in numpy gives the tokens of an independent computation, and knows what it does not know."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import dequantize, quantize
from numpy.typing import NDArray

from infermesh_client.verification.comparison import Answer, NoReferenceError
from infermesh_client.verification.gguf_weights import GgufWeights
from infermesh_client.verification.numpy_decoder import agreements
from libs.client.tests.verification import tiny_llama
from libs.client.tests.verification.tiny_llama import FACTORS, VOCABULARY

PROMPTS = [[int(i) for i in np.random.default_rng(3).integers(0, VOCABULARY, size)] for size in (1, 40, 150)]


def greedy(path: Path, prompt: list[int], count: int, **options: object) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(tiny_llama.next_token(path, ids, **options))  # type: ignore[arg-type] # the case knows them
    return ids[len(prompt) :]


def agreed(path: Path, answers: list[Answer]) -> list[list[bool]]:
    return agreements(GgufWeights(path), answers, lambda _fraction: None)


@pytest.mark.parametrize(
    ("keys", "tensors", "options"),
    [
        ({}, {}, {}),
        ({}, {"rope_freqs.weight": FACTORS}, {"factors": FACTORS}),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {}, {"scale": 0.25}),
    ],
)
def test_its_tokens_are_those_of_an_independent_computation(
    keys: Mapping[str, str | float],
    tensors: Mapping[str, NDArray[np.float32]],
    options: Mapping[str, object],
    tmp_path: Path,
) -> None:
    path = tiny_llama.write(tmp_path / "m.gguf", keys, tensors)
    answers = [Answer(prompt, greedy(path, prompt, 4, **options)) for prompt in PROMPTS]
    assert agreed(path, answers) == [[True] * 4] * 3
    wrong = [Answer(answer.prompt, [(token + 1) % VOCABULARY for token in answer.output]) for answer in answers]
    assert not any(map(any, agreed(path, wrong)))
    if options:  # the tokens of a reader that ignores the key or the tensor are told apart
        ignorant = [Answer(prompt, greedy(path, prompt, 4)) for prompt in PROMPTS[1:]]
        assert not all(map(all, agreed(path, ignorant)))


@pytest.mark.parametrize(
    ("keys", "tensors", "unknown"),
    [
        ({"attention.scale": 0.5}, {}, "attention.scale"),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, {}, "rope.scaling.type 'yarn'"),
        ({}, {"blk.0.attn_sinks.weight": np.zeros(4, np.float32)}, "blk.0.attn_sinks.weight"),
    ],
)
def test_what_it_does_not_know_has_no_reference(
    keys: Mapping[str, str | float], tensors: Mapping[str, NDArray[np.float32]], unknown: str, tmp_path: Path
) -> None:
    path = tiny_llama.write(tmp_path / "m.gguf", keys, tensors)
    with pytest.raises(NoReferenceError, match=unknown):
        agreed(path, [Answer([1], [2])])


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1])
def test_weights_are_dequantised_as_gguf_does(kind: Kind, tmp_path: Path) -> None:
    path = tiny_llama.write(tmp_path / "m.gguf", quantised=kind)
    values = (np.random.default_rng(0).standard_normal((VOCABULARY, 64)) * 1.0).astype(np.float32)
    stored = dequantize(quantize(values, kind), kind)
    weights = GgufWeights(path)
    np.testing.assert_array_equal(weights["token_embd.weight"], stored)
    np.testing.assert_array_equal(weights.rows("token_embd.weight", [3, 200]), stored[[3, 200]])
