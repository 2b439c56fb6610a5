"""Tries an output format: compiles it and walks its first tokens. Run it in a process that can be killed."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import GrammarState, compile_matcher
from infermesh_engine.sampling.grammars.source import refusal

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_STEPS = 8
"""Tokens to walk. What is costly in a grammar mostly shows at its first token: llguidance builds its lexer there."""
MAX_STEP_S = 0.05
"""Longest that choosing the tokens allowed next may take after the first time, because every stream waits for it."""


def try_format(
    tokenizer: "LLTokenizer",
    output_format: OutputFormat,
    *,
    max_step_s: float = MAX_STEP_S,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Compiles the format and walks a few tokens.

    Raises InvalidArgument, which names the field, when it cannot be compiled or a token takes too long.
    """
    matcher = compile_matcher(tokenizer, output_format)
    state = GrammarState(matcher, output_format, frozenset(tokenizer.eos_tokens))
    for step in range(_STEPS):
        since_s = clock()
        allowed = np.flatnonzero(np.unpackbits(state.allowed_bits(), bitorder="little"))
        if step and clock() - since_s > max_step_s:
            raise refusal(output_format, f"too complex: choosing a token takes more than {1000 * max_step_s:g} ms")
        if state.is_finished or not len(allowed):
            break
        # the lowest ids are single bytes in most vocabularies: they walk slowly, through many states of the lexer
        state.consume(int(allowed[len(allowed) // 2]))
