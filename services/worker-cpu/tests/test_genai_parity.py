"""Our engine and openvino-genai give the same output, with the same weights at the same precision."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import openvino as ov
import openvino_genai as genai
import pytest
from gguf import GGMLQuantizationType as Kind
from rich.console import Console

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_engine.requests.output import Delta
from infermesh_worker.testing.harness import Harness
from infermesh_worker_cpu.build_model import build_model

NEW_TOKENS = 40
UNQUANTISED = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
"""Quantised activations turn differences in the last bit into differences of a tenth; ours has none in exact."""
NEAR_TIE = 1e-2
"""Gap between the two largest log probabilities below which two correct programs may choose different tokens."""


@pytest.fixture(scope="module")
def same_weights(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with the default model in Q8_0: openvino-genai rounds the zero points of its Q4_1."""
    folder = tmp_path_factory.mktemp("q8_0")
    reader = gguf.GGUFReader(default_model / "model.gguf")
    writer = gguf.GGUFWriter(folder / "model.gguf", reader.fields["general.architecture"].contents())
    for key in reader.fields.values():
        if not key.name.startswith(("GGUF.", "general.architecture")):
            sub_type = key.types[-1] if key.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key.name, key.contents(), key.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        kind = Kind.F32 if values.ndim == 1 else Kind.Q8_0
        writer.add_tensor(tensor.name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    import_model(str(folder / "model.gguf"), "q8", folder / "models", ProgressView(Console(quiet=True)))
    return folder / "models" / "q8"


@pytest.fixture(scope="module")
def peer(same_weights: Path) -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    precision = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", **UNQUANTISED}
    return genai.ContinuousBatchingPipeline(str(same_weights / "model.gguf"), scheduler, "CPU", precision)


@pytest.fixture(scope="module")
def ours(same_weights: Path, harness_of: Callable[..., Harness]) -> Iterator[Harness]:
    model = build_model({"folder": str(same_weights), "numerics": "exact", "kv_cache_bytes": 1 << 29})
    yield harness_of(model, max_batched_tokens=512)
    model.runner.close()


def peer_tokens(peer: genai.ContinuousBatchingPipeline, prompt_ids: list[list[int]]) -> list[list[int]]:
    config = genai.GenerationConfig()
    config.max_new_tokens = NEW_TOKENS
    config.ignore_eos = True
    config.do_sample = False
    inputs = [ov.Tensor(np.array([ids], np.int64)) for ids in prompt_ids]
    return [list(result.m_generation_ids[0]) for result in peer.generate(inputs, [config] * len(inputs))]


def test_greedy_tokens_equal_the_peers_up_to_a_near_tie(
    ours: Harness, peer: genai.ContinuousBatchingPipeline, prompts: tuple[str, ...]
) -> None:
    requests = [ours.request(prompt, prompt, tokens=NEW_TOKENS, logprobs=2) for prompt in prompts]
    got: dict[str, list[tuple[int, float]]] = {prompt: [] for prompt in prompts}
    for output in ours.run(*requests):
        if isinstance(output, Delta):
            first, second = output.logprobs[0].top
            got[output.request_id].append((output.token_ids[0], first.logprob - second.logprob))
    theirs = peer_tokens(peer, [list(request.prompt_token_ids) for request in requests])
    compared = 0
    for prompt, expected in zip(prompts, theirs, strict=True):
        assert len(expected) == len(got[prompt]) == NEW_TOKENS
        for position, ((token, gap), other) in enumerate(zip(got[prompt], expected, strict=True)):
            if token != other:
                assert gap < NEAR_TIE, f"{prompt!r} differs at token {position} where the gap is {gap:.4f}"
                break
            compared += 1
    assert compared > len(prompts) * NEW_TOKENS * 0.8


def test_the_tokenizer_equals_the_peers(
    ours: Harness, peer: genai.ContinuousBatchingPipeline, prompts: tuple[str, ...]
) -> None:
    for text in (
        *prompts,
        "naïve café — 東京 🚀 1234567",
        "\t\tif x == 10:\r\n        return  None",
        "<|im_start|>user\nhi<|im_end|>",
    ):
        ids = ours.tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == peer.get_tokenizer().encode(text).input_ids.data[0].tolist(), text
