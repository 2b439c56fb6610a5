"""Output formats are tried in a process of their own and compiled beside the engine's steps."""

import json
import queue
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from infermesh_engine.requests.request import GenerationRequest, OutputFormat
from infermesh_engine.sampling.grammars import grammar
from infermesh_engine.sampling.grammars.cache import GrammarCache
from infermesh_engine.sampling.grammars.grammar import GrammarFactory, compile_matcher
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted, Unavailable
from infermesh_worker.engine_process.formats.format_compiler import Compiled, FormatCompiler
from infermesh_worker.engine_process.formats.format_gate import FormatGate
from infermesh_worker.engine_process.frames import FormatLimits
from infermesh_worker.testing.simulated_engine import END_OF_TEXT_ID, build_tokenizer

pytestmark = pytest.mark.alone  # a busy machine is an answer of its own

ENDLESS = OutputFormat(kind="json_schema", spec='{"type": "integer", "multipleOf": 99999999}')
LATE = OutputFormat(
    kind="json_schema",
    spec=json.dumps(
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer", "multipleOf": 99999999}},
            "required": ["a", "b"],
        }
    ),
)
OPTIONAL = OutputFormat(
    kind="json_schema",
    spec=json.dumps({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(10_000)}}),
)
LARK = OutputFormat(kind="grammar", spec="start: " + " | ".join(f'"word{i:06d}x"' for i in range(60_000)))
REPEATED = OutputFormat(kind="regex", spec="(a{1000}){1000}")
HUGE = OutputFormat(kind="json_schema", spec=json.dumps({"description": "x" * (5 << 20)}))
ENUM = OutputFormat(kind="json_schema", spec=json.dumps({"enum": [f"value-{i * 7919}" for i in range(10_000)]}))
TREE = OutputFormat(
    kind="json_schema",
    spec='{"$defs": {"n": {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#/$defs/n"}}},'
    ' "required": ["c"]}}, "$ref": "#/$defs/n"}',
)


class Desk:
    """A compiler, and its results as they come."""

    def __init__(self, limits: FormatLimits) -> None:
        tokenizer, eos = build_tokenizer(), frozenset({END_OF_TEXT_ID})
        self.factory = GrammarFactory(tokenizer, eos)
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.compiler = FormatCompiler(tokenizer, eos, self.factory.prepare, limits, lambda: self._rung.put(None))

    def compile(self, output_format: OutputFormat) -> Compiled:
        self.compiler.start(output_format)
        self.wait()
        compiled = self.compiler.take()
        assert compiled is not None
        return compiled

    def wait(self) -> None:
        """Waits for the next result."""
        self._rung.get(timeout=60)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    made = Desk(FormatLimits(timeout_s=1.0, memory_bytes=256 << 20))
    yield made
    made.compiler.stop()


@pytest.mark.parametrize("output_format", [ENDLESS, LATE, OPTIONAL, LARK, REPEATED, HUGE], ids=range(6))
def test_costly_format_is_refused_by_name(desk: Desk, output_format: OutputFormat) -> None:
    compiled = desk.compile(output_format)
    assert isinstance(compiled.error, InvalidArgument), compiled
    assert list(compiled.error.fields) == [f"format.{output_format.kind}"]
    assert compiled.permanent
    assert desk.compile(TREE).matcher is not None, "the trial process goes on"


@pytest.mark.parametrize("output_format", [ENUM, TREE], ids=["enum", "tree"])
def test_large_but_cheap_format_is_compiled(desk: Desk, output_format: OutputFormat) -> None:
    compiled = desk.compile(output_format)
    assert compiled.error is None
    assert compiled.matcher is not None
    assert 0 <= compiled.memory_bytes < 64 << 20


def test_format_that_takes_too_much_memory_is_refused() -> None:
    desk = Desk(FormatLimits(timeout_s=60.0, memory_bytes=64 << 20))
    compiled = desk.compile(ENDLESS)
    desk.compiler.stop()
    assert isinstance(compiled.error, InvalidArgument)
    assert "more than 64 MiB of memory" in compiled.error.message


def test_stopped_compiler_leaves_no_process() -> None:
    desk = Desk(FormatLimits(timeout_s=1.0, memory_bytes=256 << 20))
    assert desk.compile(TREE).error is None
    assert desk.compiler._trial is not None
    trial = psutil.Process(desk.compiler._trial._process.pid)
    desk.compiler.stop()
    assert not trial.is_running()


def test_killed_trial_process_is_started_again(desk: Desk) -> None:
    assert desk.compile(TREE).error is None
    trial = desk.compiler._trial
    assert trial is not None
    trial._process.kill()
    trial._process.wait()
    assert isinstance(desk.compile(TREE).error, Unavailable)
    assert desk.compile(TREE).error is None


def test_trial_without_processor_time_refuses_nothing_for_good() -> None:
    desk = Desk(FormatLimits(timeout_s=0.6, memory_bytes=256 << 20))
    assert desk.compile(TREE).error is None
    assert desk.compiler._trial is not None
    trial = psutil.Process(desk.compiler._trial._process.pid)
    desk.compiler.start(ENDLESS)
    while not (forks := trial.children()):
        time.sleep(0.001)
    forks[0].suspend()
    desk.wait()
    compiled = desk.compiler.take()
    desk.compiler.stop()
    assert compiled is not None
    assert isinstance(compiled.error, Unavailable)
    assert not compiled.permanent


def test_panic_of_the_library_is_the_requests_error_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {})

    def fail(*_: object, **__: object) -> Callable[..., object]:
        raise panic("thread 'main' panicked at secret.rs:7")

    monkeypatch.setattr(grammar, "to_grammar", lambda _: "")
    monkeypatch.setattr("llguidance.LLMatcher", fail)
    with pytest.raises(InvalidArgument) as caught:
        compile_matcher(GrammarFactory(build_tokenizer(), frozenset()).prepare(), TREE)
    assert "secret" not in caught.value.message


class Compiler(FormatCompiler):
    """Compiles when the test says so."""

    def __init__(self) -> None:
        self.asked: list[OutputFormat] = []
        self.results: list[Compiled] = []

    def start(self, output_format: OutputFormat) -> None:
        self.asked.append(output_format)

    def take(self) -> Compiled | None:
        return self.results.pop(0) if self.results else None


def request(request_id: str, output_format: OutputFormat | None = TREE) -> GenerationRequest:
    return GenerationRequest(request_id=request_id, prompt_token_ids=(1,), seed=1, output_format=output_format)


def test_requests_with_one_format_wait_for_one_compilation() -> None:
    compiler, cache = Compiler(), GrammarCache()
    gate = FormatGate(compiler, cache)
    assert not gate.hold(request("free", None))
    assert all(gate.hold(request(name)) for name in "abc")
    gate.cancel("b")
    assert (gate.waiting, compiler.asked) == (2, [TREE])
    factory = GrammarFactory(build_tokenizer(), frozenset())
    compiler.results.append(Compiled(TREE, compile_matcher(factory.prepare(), TREE), 5))
    assert [(held.request_id, error) for held, error in gate.released()] == [("a", None), ("c", None)]
    assert not gate.hold(request("d"))
    assert gate.waiting == 0


def test_refused_format_is_remembered_and_a_passing_error_is_not() -> None:
    compiler = Compiler()
    gate = FormatGate(compiler, GrammarCache())
    for error, permanent in ((Unavailable("later"), False), (InvalidArgument("never"), True)):
        assert gate.hold(request("a"))
        compiler.results.append(Compiled(TREE, error=error, permanent=permanent))
        assert [found for _, found in gate.released()] == [error]
    with pytest.raises(InvalidArgument, match="never"):
        gate.hold(request("b"))
    assert len(compiler.asked) == 2


def test_only_so_many_formats_wait() -> None:
    gate = FormatGate(Compiler(), GrammarCache())
    for number in range(64):
        assert gate.hold(request(str(number), OutputFormat(kind="regex", spec=f"a{{{number}}}")))
    with pytest.raises(ResourceExhausted):
        gate.hold(request("x"))
