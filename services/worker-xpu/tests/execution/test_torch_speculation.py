"""Guessing tokens ahead on torch, which samples on the host or on its device: exact answers stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.runner import ModelRunner
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_worker.models.model_folder import ModelFolder

if TYPE_CHECKING:
    from conftest import EagerGraph, MakeRunner

TOKENS = 30
SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0),
    "sampled": SamplingParams(temperature=0.9),
    "penalised": SamplingParams(temperature=0.7, top_p=0.9, repetition_penalty=1.3, presence_penalty=0.4),
}
Answers = dict[str, tuple[tuple[int, ...], tuple[Any, ...]]]


def answers(
    runner: ModelRunner, tokenizer: Tokenizer, speculation: SpeculationOptions, predictions: dict[str, tuple[int, ...]]
) -> tuple[Answers, int]:
    """Tokens and log probabilities of requests, and how many guesses were right."""
    config = EngineConfig(max_sequences=8, max_batched_tokens=128, prefix_caching=False, speculation=speculation)
    engine = Engine(runner, tokenizer, frozenset(), config)
    found: Answers = {}
    for name, sampling in SAMPLINGS.items():
        found[name] = (), ()
        engine.submit(
            GenerationRequest(
                request_id=name,
                prompt_token_ids=tuple(np.random.default_rng(len(name)).integers(3, 160, 40).tolist()),
                seed=1,
                sampling=sampling,
                stop=StopConditions(max_tokens=TOKENS, ignore_eos=True),
                logprobs=1,
                prediction=predictions.get(name, ()),
            )
        )
    while engine.has_work:
        for output in engine.step():
            assert isinstance(output, Delta) or hasattr(output, "finish_reason"), output
            if isinstance(output, Delta):
                tokens, logprobs = found[output.request_id]
                found[output.request_id] = tokens + output.token_ids, logprobs + output.logprobs
    return found, engine.load().accepted_tokens


@pytest.fixture
def tokenizer(default_model: Path) -> Tokenizer:
    return ModelFolder.open(default_model).load_tokenizer()


@pytest.mark.parametrize("sampling", ["host", "device"])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2"])
def test_exact_answers_are_those_of_the_run_without(
    name: str, sampling: Literal["host", "device"], tiny_runner: MakeRunner, tokenizer: Tokenizer
) -> None:
    runner = tiny_runner(name, numerics="exact", sampling=sampling)
    assert runner.info.samples == (sampling == "device")
    expected, _ = answers(runner, tokenizer, SpeculationOptions(mode="off"), {})
    told = {
        request: tuple((token + (place % 9 == 8)) % 160 for place, token in enumerate(tokens))
        for request, (tokens, _) in expected.items()
    }
    guessed, right = answers(runner, tokenizer, SpeculationOptions(mode="always", max_tokens=5), told)
    assert guessed == expected
    assert right > TOKENS
    runner.close()


def test_captured_steps_check_guesses(graph_runner: MakeRunner, made: list[EagerGraph], tokenizer: Tokenizer) -> None:
    """As on a GPU: the steps that check guesses are those captured for chunks of prompts."""
    runner = graph_runner("llama", sampling="device", max_sequences=24)  # a captured step has so many rows
    expected, _ = answers(runner, tokenizer, SpeculationOptions(mode="off"), {})
    before = {graph: graph.replays for graph in made}
    told = {request: tokens for request, (tokens, _) in expected.items()}
    guessed, right = answers(runner, tokenizer, SpeculationOptions(mode="always", max_tokens=5), told)
    assert {name: tokens for name, (tokens, _) in guessed.items()} == told
    assert right > TOKENS
    assert sum(graph.replays - before[graph] for graph in made) > TOKENS // 6
    runner.close()
