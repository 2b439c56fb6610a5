"""Fixtures of the engine's tests: a byte-level tokenizer, requests, sequences and engines on the simulated runner."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Failed, Finished, Output, PromptLogprobs, TokenLogprob
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import ModelRunner
from infermesh_engine.sampling.sampler_state import SamplerState
from infermesh_engine.scheduling.kv_cache import PREFIX_ROOT
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock
from infermesh_engine.simulated.sampling_runner import SimulatedSamplingRunner
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_engine.text.sequence_text import SequenceText

EOS = 256


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """257 tokens: the bytes in the order of ByteLevel's sorted alphabet, then <eos>, number 256."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


@pytest.fixture(scope="session")
def make_sequence(byte_tokenizer: Tokenizer) -> Callable[..., Sequence]:
    """Builds a sequence that no engine owns."""

    def make(
        prompt: tuple[int, ...],
        *,
        request_id: str = "a",
        choice: int = 0,
        arrival: int = 0,
        priority: int = 0,
        prefix_root: bytes | None = PREFIX_ROOT,
        limit: int = 10_000,
        **params: Any,
    ) -> Sequence:
        request = GenerationRequest(
            request_id=request_id, prompt_token_ids=prompt, seed=1, priority=priority, n=choice + 1, **params
        )
        sampler = SamplerState(
            request.sampling,
            seed=request.seed,
            choice=choice,
            prompt_token_ids=prompt,
            logprobs=request.logprobs,
            banned_until_min_tokens=frozenset(),
            min_tokens=0,
            grammar=None,
            vocab_size=257,
        )
        text = SequenceText(byte_tokenizer, prompt, request.stop, frozenset({EOS}))
        return Sequence(
            request, choice, arrival=arrival, limit=limit, prefix_root=prefix_root, sampler=sampler, text=text
        )

    return make


@dataclass
class Choice:
    """All outputs of one choice."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finished: Finished | None = None


Choices = dict[tuple[str, int], Choice]


def collect(choices: Choices, outputs: list[Output]) -> None:
    """Adds a step's outputs; none may come after the end of its choice."""
    for output in outputs:
        assert not isinstance(output, Failed | PromptLogprobs), output
        choice = choices.setdefault((output.request_id, output.choice), Choice())
        assert choice.finished is None, "an output after the choice's end"
        if isinstance(output, Finished):
            choice.finished = output
        else:
            choice.text += output.text
            choice.token_ids += output.token_ids
            choice.logprobs += output.logprobs


@dataclass
class Bench:
    """An engine on a simulated runner with a virtual clock, and the outputs of its requests."""

    engine: Engine
    choices: Choices = field(default_factory=dict)

    def step(self) -> None:
        collect(self.choices, self.engine.step())

    def finish(self, *requests: GenerationRequest) -> Choices:
        """Runs until nothing is left to do; fails after more steps than a correct engine needs."""
        for request in requests:
            self.engine.submit(request)
        for _ in range(20_000):
            if not self.engine.has_work:
                return self.choices
            self.step()
        raise AssertionError("the engine does not finish")


@pytest.fixture(scope="session")
def make_bench(byte_tokenizer: Tokenizer) -> Callable[..., Bench]:
    """Builds a bench. Options have the names of EngineConfig and SimulatedOptions.

    `guesses`: how many tokens ahead each step guesses, with `speculation` "always" whether it pays or not; 0: none.
    """

    def make(
        *,
        max_sequences: int = 16,
        max_batched_tokens: int = 4096,
        prefix_caching: bool = True,
        guesses: int = 0,
        speculation: Literal["always", "auto"] = "always",
        tokenizer: Tokenizer = byte_tokenizer,
        wrap: Callable[[ModelRunner], ModelRunner] = lambda runner: runner,
        runner: type[SimulatedRunner | SimulatedSamplingRunner] = SimulatedRunner,
        **device: Any,
    ) -> Bench:
        clock = VirtualClock()
        options = SimulatedOptions(
            **{"vocab_size": 257, "block_size": 4, "num_blocks": 4096, "context_length": 1024, "checks_drafts": True}
            | device
        )
        device_runner = runner(options, clock=clock, sleep=clock.sleep)
        config = EngineConfig(
            max_sequences=max_sequences,
            max_batched_tokens=max_batched_tokens,
            prefix_caching=prefix_caching,
            speculation=SpeculationOptions(mode=speculation if guesses else "off", max_tokens=guesses or 1),
        )
        return Bench(Engine(wrap(device_runner), tokenizer, frozenset({EOS}), config, clock))

    return make


@pytest.fixture(scope="session")
def make_ahead(make_bench: Callable[..., Bench]) -> Callable[..., Bench]:
    """Builds a bench whose runner samples, so that its steps overlap."""

    def make(**options: Any) -> Bench:
        return make_bench(runner=SimulatedSamplingRunner, **options)

    return make
