"""A model as an engine process holds it: its runner, tokenizer and end-of-sequence tokens."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from infermesh_engine.runners.runner import ModelRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """What a worker's build function returns in the engine process."""

    runner: ModelRunner
    tokenizer: Tokenizer
    eos_token_ids: frozenset[int]
