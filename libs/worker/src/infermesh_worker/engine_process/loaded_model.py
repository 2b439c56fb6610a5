"""Owns what a worker's build function hands to its engine process. Knows no device and no transport."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from infermesh_engine.runners.runner import ModelRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model ready to run, as `build(options)` returns it in the engine process."""

    runner: ModelRunner
    tokenizer: Tokenizer
    eos_token_ids: frozenset[int]
