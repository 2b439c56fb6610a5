"""Compiles output formats (JSON schema, regex, grammar) and says which tokens are allowed next.

llguidance does the work. This module gives it the tokenizer, limits the input so that a hostile one cannot harm the
process, and translates its errors.
"""

# ruff: noqa: PLC0415 - llguidance is imported only to compile a format: unconstrained requests run without it

import json
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from infermesh_engine.requests.request import OutputFormat
from infermesh_runtime.errors import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

_MAX_DEFINITIONS = 1000
"""Most rules or references in a spec. llguidance follows them recursively; a chain of 2,500 overflows its stack."""
_MAX_SPEC_BYTES = 1 << 20
_MAX_MESSAGE = 500
_CACHED = 32
_DEAD_END = "no output can satisfy it"
_JSON_OPTIONS: "JsonCompileOptions" = {
    # llama.cpp's limit: without one, small models pad their JSON with white space until max_tokens
    "whitespace_pattern": r"(\x20|\n{1,2}[\x20\t]{0,20})",
}


class GrammarState:
    """The position of one output in its grammar."""

    __slots__ = ("_eos_token_ids", "_format", "_matcher")

    def __init__(self, matcher: "LLMatcher", output_format: OutputFormat, eos_token_ids: AbstractSet[int]) -> None:
        self._matcher = matcher
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
        {"$ref": "#"} does, or exceeds llguidance's limits.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():  # the mask then admits the end of sequence, as if the output were complete
            reason = self._matcher.get_error().strip()
            raise _refusal(self._format, _DEAD_END if reason.startswith("NoExtension") else reason)
        return bits

    def consume(self, token_id: int) -> None:
        """Moves past a token. An end-of-sequence token after the end changes nothing.

        Raises InvalidArgument when the token is not allowed here, or when the grammar exceeds llguidance's limits.
        """
        if self.is_finished and token_id in self._eos_token_ids:
            return
        if not self._matcher.consume_token(token_id):
            raise _refusal(self._format, self._matcher.get_error())


class GrammarFactory:
    """Compiles output formats for one tokenizer and caches the last few."""

    def __init__(self, tokenizer: Tokenizer, eos_token_ids: AbstractSet[int]) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._bound: LLTokenizer | None = None
        self._compiled: OrderedDict[OutputFormat, LLMatcher] = OrderedDict()

    def prepare(self) -> "LLTokenizer":
        """Indexes the vocabulary once: 0.3 s and 30 MB for 49,000 tokens, 2.4 s and 110 MB for 262,000.

        It blocks other threads meanwhile, so call it while loading if the first constrained request must not wait.

        Raises Unimplemented when the tokenizer is neither byte-level nor has byte tokens.
        """
        if self._bound is None:
            from llguidance import LLTokenizer

            try:
                self._bound = LLTokenizer(self._tokenizer.to_str(), eos_token=sorted(self._eos_token_ids) or None)
            except ValueError as error:
                raise Unimplemented(f"this model does not support output formats: {error}") from error
        return self._bound

    def compile(self, output_format: OutputFormat) -> GrammarState:
        """A state at the start of the output. Calls `prepare` if nobody has.

        Raises InvalidArgument, which names the field ("format.regex"), when the format cannot be compiled, and
        Unimplemented when the model does not support output formats.
        """
        matcher = self._compiled.get(output_format)
        if matcher is None:
            from llguidance import LLMatcher, LLParserLimits

            matcher = LLMatcher(
                self.prepare(), _to_grammar(output_format), log_level=0, limits=LLParserLimits(verbose_errors=False)
            )
            if matcher.is_error():
                raise _refusal(output_format, matcher.get_error())
            self._compiled[output_format] = matcher
            if len(self._compiled) > _CACHED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(output_format)
        return GrammarState(matcher.deep_copy(), output_format, self._eos_token_ids)


def _to_grammar(output_format: OutputFormat) -> str:
    """The format in llguidance's terms. Raises InvalidArgument for one that must not reach llguidance."""
    from llguidance import LLMatcher

    spec = output_format.spec
    if len(spec.encode(errors="replace")) > _MAX_SPEC_BYTES:
        raise _refusal(output_format, f"longer than {_MAX_SPEC_BYTES} bytes")
    if output_format.kind == "json_schema":
        return _json_grammar(output_format)
    if output_format.kind == "regex":
        return str(LLMatcher.grammar_from_regex(spec))
    if spec.count(":") > _MAX_DEFINITIONS:
        raise _refusal(output_format, f"more than {_MAX_DEFINITIONS} definitions")
    return str(LLMatcher.grammar_from_lark(spec))


def _json_grammar(output_format: OutputFormat) -> str:
    try:
        schema = json.loads(output_format.spec)
        references = json.dumps(schema).count('"$ref"')
    except RecursionError:
        raise _refusal(output_format, "nested too deeply") from None
    except ValueError as error:
        raise _refusal(output_format, f"not valid JSON: {error}") from error
    if not isinstance(schema, dict) and schema is not True:
        raise _refusal(output_format, "the schema must be an object or true")
    if references > _MAX_DEFINITIONS:
        raise _refusal(output_format, f"more than {_MAX_DEFINITIONS} references")
    text = output_format.spec
    if schema is True:
        text = "{}"
    elif not schema:
        # {} means "any JSON object" in our API, but "any value" in JSON Schema
        text = '{"type": "object"}'
    from llguidance import LLMatcher

    try:
        return str(LLMatcher.grammar_from_json_schema(text, _JSON_OPTIONS))
    except ValueError as error:
        raise _refusal(output_format, str(error)) from error


def _refusal(output_format: OutputFormat, message: str) -> InvalidArgument:
    short = message.strip().partition("\n<state>")[0][:_MAX_MESSAGE]
    name = output_format.kind.replace("_", " ")
    return InvalidArgument(f"invalid {name}: {short}", fields={f"format.{output_format.kind}": short})
