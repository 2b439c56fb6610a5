"""Compiles output formats (JSON schema, regex, grammar) and says which tokens are allowed next.

llguidance does the work. This module gives it the tokenizer and limits, caches what it compiled, and translates its
errors.
"""

# ruff: noqa: PLC0415 - llguidance is imported only to compile a format: unconstrained requests run without it

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from copy import copy
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.cache import GrammarCache
from infermesh_engine.sampling.grammars.digit_bound import DigitBound, DigitTokens
from infermesh_engine.sampling.grammars.source import refusal, to_grammar
from infermesh_runtime.errors import Unimplemented

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_DEAD_END = "no output can satisfy it"
_FAILED = "the grammar engine failed on it"
_INITIAL_FUEL = 200_000
_STEP_FUEL = 50_000
"""Bounds of llguidance on one mask: about 150 ms for the first one, 40 ms for each after it."""

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class GrammarState:
    """The position of one output in its grammar."""

    __slots__ = ("_digits", "_eos_token_ids", "_format", "_matcher")

    def __init__(
        self,
        matcher: "LLMatcher",
        output_format: OutputFormat,
        eos_token_ids: AbstractSet[int],
        digits: DigitBound | None = None,
    ) -> None:
        """`digits`: bounds the numbers of a JSON schema's output; None: they are not bounded."""
        self._matcher = matcher
        self._digits = digits
        self._format = output_format
        self._eos_token_ids = eos_token_ids

    @property
    def is_finished(self) -> bool:
        """Whether the output is complete and nothing can follow it."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def mask(self, row: NDArray[np.float32]) -> None:
        """Sets the logits of tokens that are not allowed next to −inf, in `row` [vocab].

        `row` may be longer than the tokenizer's vocabulary. Raises what `allowed_bits` raises.
        """
        bits = self.allowed_bits()
        allowed = np.unpackbits(bits, count=min(8 * len(bits), len(row)), bitorder="little").view(np.bool_)
        np.putmask(row[: len(allowed)], ~allowed, -np.inf)
        row[len(allowed) :] = -np.inf

    def allowed_bits(self) -> NDArray[np.uint8]:
        """The tokens allowed next: bit i & 7 of byte i >> 3 for token i of the tokenizer's vocabulary.

        Raises InvalidArgument when no token is allowed and the output is not complete: the format admits no output, as
        `start: start` does, or exceeds llguidance's limits.
        """
        bits = np.frombuffer(_guarded(self._format, self._matcher.compute_bitmask), dtype=np.uint8)
        if self._matcher.is_error():  # the mask then admits the end of sequence, as if the output were complete
            reason = self._matcher.get_error().strip()
            raise refusal(self._format, _DEAD_END if reason.startswith("NoExtension") else reason)
        if self._digits is not None and self._digits.is_reached:
            return self._digits.narrow(bits, self._matcher)
        return bits

    def consume(self, token_id: int) -> None:
        """Moves past a token. An end-of-sequence token after the end changes nothing.

        Raises InvalidArgument when the token is not allowed here, or when the grammar exceeds llguidance's limits.
        """
        if self.is_finished and token_id in self._eos_token_ids:
            return
        if not _guarded(self._format, self._matcher.consume_token, token_id):
            raise refusal(self._format, self._matcher.get_error())
        if self._digits is not None:
            self._digits.consume(token_id)

    def fork(self) -> "GrammarState":
        """Another one at the same position."""
        digits = copy(self._digits)
        return GrammarState(self._matcher.deep_copy(), self._format, self._eos_token_ids, digits)


class GrammarFactory:
    """Compiles output formats for one tokenizer and caches them, bounded in bytes."""

    def __init__(
        self, tokenizer: Tokenizer, eos_token_ids: AbstractSet[int], cache: GrammarCache | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._bound: LLTokenizer | None = None
        self._digits: DigitTokens | None = None
        self.cache = GrammarCache() if cache is None else cache
        """What is compiled. A grammar that was compiled elsewhere may be added to it."""

    def prepare(self) -> "LLTokenizer":
        """Indexes the vocabulary once: 0.3 s and 30 MB for 49,000 tokens, 2.4 s and 110 MB for 262,000.

        It blocks other threads meanwhile, so call it while loading if the first constrained request must not wait.

        Raises Unimplemented when the tokenizer is neither byte-level nor has byte tokens.
        """
        if self._bound is None:
            self._bound = index_vocabulary(self._tokenizer.to_str(), self._eos_token_ids)
        return self._bound

    def compile(self, output_format: OutputFormat) -> GrammarState:
        """A state at the start of the output. Calls `prepare` if nobody has.

        Raises InvalidArgument, which names the field ("format.regex"), when the format cannot be compiled, and
        Unimplemented when the model does not support output formats.
        """
        matcher = self.cache.get(output_format)
        if matcher is None:
            matcher = compile_matcher(self.prepare(), output_format)
            self.cache.add(output_format, matcher)
        digits = None
        if output_format.kind == "json_schema" or output_format.bound_digits:
            self._digits = self._digits or DigitTokens.of(self.prepare())
            digits = DigitBound(self._digits)
        return GrammarState(matcher.deep_copy(), output_format, self._eos_token_ids, digits)


def index_vocabulary(tokenizer: str, eos_token_ids: AbstractSet[int]) -> "LLTokenizer":
    """llguidance's index of a vocabulary, from the text of tokenizer.json. Raises Unimplemented; see `prepare`."""
    from llguidance import LLTokenizer

    try:
        return LLTokenizer(tokenizer, eos_token=sorted(eos_token_ids) or None)
    except ValueError as error:
        raise Unimplemented(f"this model does not support output formats: {error}") from error


def compile_matcher(tokenizer: "LLTokenizer", output_format: OutputFormat) -> "LLMatcher":
    """A compiled format. Lets other threads run, but nothing can stop it. Raises InvalidArgument."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(verbose_errors=False, initial_lexer_fuel=_INITIAL_FUEL, step_lexer_fuel=_STEP_FUEL)
    grammar = to_grammar(output_format)
    matcher = _guarded(output_format, LLMatcher, tokenizer, grammar, log_level=0, limits=limits)
    if matcher.is_error():
        raise refusal(output_format, matcher.get_error())
    return matcher


def _guarded(output_format: OutputFormat, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What `call` returns. A panic of llguidance, which is no Exception, becomes InvalidArgument without its text."""
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        _log.exception("llguidance panicked", extra={"format": output_format.kind})
        raise refusal(output_format, _FAILED) from None
