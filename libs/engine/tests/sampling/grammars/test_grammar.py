"""Output formats: what they allow, and what is refused."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from infermesh_engine.requests.request import OutputFormat, SamplingParams
from infermesh_engine.sampling.grammars.cache import GrammarCache
from infermesh_engine.sampling.grammars.grammar import GrammarFactory, GrammarState
from infermesh_engine.sampling.sampler_state import SamplerState
from infermesh_runtime.errors import InvalidArgument, Unimplemented

EOS = 256


def json_schema(schema: Any) -> OutputFormat:
    return OutputFormat(kind="json_schema", spec=json.dumps(schema))


def regex(spec: str) -> OutputFormat:
    return OutputFormat(kind="regex", spec=spec)


def lark(spec: str) -> OutputFormat:
    return OutputFormat(kind="grammar", spec=spec)


@pytest.fixture
def factory(byte_tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(byte_tokenizer, frozenset({EOS}))


def allowed(state: GrammarState, vocab_size: int = 257) -> set[int]:
    row = np.zeros(vocab_size, dtype=np.float32)
    state.mask(row)
    return set(np.flatnonzero(row == 0).tolist())


def admits(factory: GrammarFactory, output_format: OutputFormat, tokenizer: Tokenizer, text: str) -> bool:
    """Whether the masks let `text` be generated, token by token, and then the end."""
    state = factory.compile(output_format)
    for token_id in tokenizer.encode(text).ids:
        if token_id not in allowed(state):
            return False
        state.consume(token_id)
    return EOS in allowed(state)


def test_masks_follow_a_regex_to_its_end(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    a, b, c = byte_tokenizer.encode("abc").ids
    state = factory.compile(regex("ab+c?"))
    assert allowed(state) == {a}
    state.consume(a)
    assert allowed(state) == {b}
    state.consume(b)
    assert allowed(state) == {b, c, EOS}
    assert not state.is_finished
    state.consume(c)
    assert state.is_finished
    assert allowed(state) == {EOS}
    state.consume(EOS)
    state.consume(EOS)
    assert state.is_finished


def test_rows_longer_and_shorter_than_the_vocabulary(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    state = factory.compile(regex("[a-z]+"))
    assert allowed(state, 300) == allowed(state, 257) == allowed(state, 256)


@pytest.mark.parametrize(
    ("output_format", "good", "bad"),
    [
        (json_schema({}), ["{}", '{"a": [1, null]}', '{\n  "a": 1\n}'], ["[1]", "1", "{", '{   "a":1}', " {}"]),
        (
            json_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
            ['{"n": 12}', '{"n":-1}'],
            ["{}", '{"n":-1, "m": "é"}', '{"n": 1.5}', '{"n": "1"}'],
        ),
        (json_schema(True), ["[1]", '"x"'], ["x"]),
        (json_schema({"enum": ["yes", "no"]}), ['"yes"'], ['"maybe"', "yes"]),
        (regex(r"\d{3}-é"), ["123-é"], ["12-é", "123-e", "123-é "]),
        (lark('start: "(" start ")" | "x"'), ["x", "((x))"], ["(x", "()"]),
    ],
)
def test_formats(
    factory: GrammarFactory, byte_tokenizer: Tokenizer, output_format: OutputFormat, good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert admits(factory, output_format, byte_tokenizer, text), text
    for text in bad:
        assert not admits(factory, output_format, byte_tokenizer, text), text


def test_states_of_one_format_are_independent(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    a, b = byte_tokenizer.encode("ab").ids
    first, second = (factory.compile(regex("ab")) for _ in range(2))
    first.consume(a)
    assert (allowed(first), allowed(second)) == ({b}, {a})
    assert allowed(factory.compile(regex("ab"))) == {a}


def test_many_formats_are_not_all_kept(byte_tokenizer: Tokenizer) -> None:
    factory = GrammarFactory(byte_tokenizer, frozenset({EOS}), GrammarCache(1 << 20))
    states = [factory.compile(regex(f"a{{{n}}}")) for n in range(1, 80)]
    (a,) = byte_tokenizer.encode("a").ids
    assert all(allowed(state) == {a} for state in states)
    assert len(factory.cache) == 4
    assert factory.cache.held_bytes <= 1 << 20


def test_token_that_may_not_come_is_an_error_and_not_an_end(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    (x,) = byte_tokenizer.encode("x").ids
    state = factory.compile(regex("ab"))
    with pytest.raises(InvalidArgument, match="doesn't satisfy the grammar") as caught:
        state.consume(x)
    assert list(caught.value.fields) == ["format.regex"]
    assert "<state>" not in caught.value.message
    assert not state.is_finished
    for early in (EOS, x):
        with pytest.raises(InvalidArgument):
            factory.compile(regex("ab")).consume(early)


@pytest.mark.parametrize(
    ("output_format", "before"),
    [(lark("start: start"), ""), (lark('start: "a" b\nb: b'), "a")],
)
def test_dead_end_is_an_error_and_not_an_end(
    factory: GrammarFactory, byte_tokenizer: Tokenizer, output_format: OutputFormat, before: str
) -> None:
    state = factory.compile(output_format)
    for token_id in byte_tokenizer.encode(before).ids:
        assert allowed(state) == {token_id}
        state.consume(token_id)
    with pytest.raises(InvalidArgument, match="no output can satisfy it") as caught:
        allowed(state)
    assert list(caught.value.fields) == [f"format.{output_format.kind}"]
    assert not state.is_finished


INVALID = [
    (json_schema({"$ref": "#"}), "no output can satisfy it"),
    (OutputFormat(kind="json_schema", spec='{"type":'), "not valid JSON"),
    (OutputFormat(kind="json_schema", spec='{"a": NaN}'), "invalid json schema"),
    (OutputFormat(kind="json_schema", spec=r'{"const": "\ud800"}'), "invalid json schema"),
    (OutputFormat(kind="json_schema", spec="[" * 100_000), "nested too deeply"),
    (OutputFormat(kind="json_schema", spec='{"items":' * 500 + "{}" + "}" * 500), "invalid json schema"),
    (json_schema([1]), "the schema must"),
    (json_schema(False), "the schema must be an object or true"),
    (json_schema({"type": "foo"}), "Invalid type: foo"),
    (json_schema({"type": "integer", "minimum": 5, "maximum": 1}), "Unsatisfiable"),
    (json_schema({"type": "object", "if": {}, "then": {}}), "Unimplemented keys"),
    (json_schema({"$ref": "https://example.com/schema"}), "invalid json schema"),
    (regex("a(b"), "unclosed group"),
    (regex("(?=a)b"), "look-around"),
    (regex("(" * 5000), "invalid regex"),
    (lark("start: foo"), 'unknown name: "foo"'),
    (lark(""), "Empty grammar"),
    (lark("start: " + "(" * 5000), "too deeply nested"),
    (regex("é" * (1 << 19) + "x"), "longer than"),
]


@pytest.mark.parametrize(("output_format", "message"), INVALID, ids=range(len(INVALID)))
def test_invalid_formats_are_refused_by_name(
    factory: GrammarFactory, output_format: OutputFormat, message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        factory.compile(output_format)
    assert message in caught.value.message
    assert len(caught.value.message) < 600
    assert list(caught.value.fields) == [f"format.{output_format.kind}"]


def chain_of_rules(length: int) -> str:
    rules = "".join(f"r{i}: r{i + 1}\n" for i in range(length - 2))
    return f'start: r0\n{rules}r{length - 2}: "a"'


def chain_of_references(length: int) -> dict[str, Any]:
    names = [{"$ref": f"#/$defs/r{i + 1}"} for i in range(length - 1)]
    definitions = {f"r{i}": name for i, name in enumerate(names)} | {f"r{length - 1}": {"type": "integer"}}
    return {"$ref": "#/$defs/r0", "$defs": definitions}


def test_chains_that_would_overflow_the_stack_are_refused(factory: GrammarFactory) -> None:
    for output_format in (lark(chain_of_rules(1001)), json_schema(chain_of_references(1001))):
        with pytest.raises(InvalidArgument, match="more than 1000"):
            factory.compile(output_format)


def test_longest_chains_do_not_overflow_the_stack(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    assert admits(factory, lark(chain_of_rules(1000)), byte_tokenizer, "a")
    assert admits(factory, json_schema(chain_of_references(1000)), byte_tokenizer, "12")


def test_sampler_is_led_by_the_grammar_and_told_of_its_end(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    state = SamplerState(
        SamplingParams(),
        seed=1,
        choice=0,
        prompt_token_ids=(),
        logprobs=None,
        banned_until_min_tokens=frozenset({EOS}),
        min_tokens=50,
        grammar=factory.compile(regex("[0-9]{2}")),
        vocab_size=257,
    )
    for _ in range(2):
        assert not state.finished_by_grammar
        row = state.adjusted(np.zeros(257, dtype=np.float32))
        digits = np.flatnonzero(row == 0).tolist()
        assert sorted(byte_tokenizer.decode(digits)) == list("0123456789")
        state.observe(digits[0])
    assert state.finished_by_grammar
    row = state.adjusted(np.zeros(257, dtype=np.float32))
    assert np.flatnonzero(row == 0).tolist() == [EOS], "the grammar's end is not put off by min_tokens"


def test_tokenizer_that_hides_its_bytes_cannot_be_constrained() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(Unimplemented, match="does not support output formats"):
        GrammarFactory(words, frozenset({0})).compile(regex("a"))


def test_no_torch_is_imported() -> None:
    imports = "from infermesh_engine.sampling import sampler; from infermesh_engine.sampling.grammars import grammar"
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
