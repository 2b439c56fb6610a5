"""Holds back requests whose output format is not compiled yet, so that the engine's steps never compile."""

from collections import OrderedDict
from collections.abc import Iterator

from infermesh_engine.requests.request import GenerationRequest, OutputFormat
from infermesh_engine.sampling.grammars.cache import GrammarCache
from infermesh_runtime.errors import InfermeshError, ResourceExhausted
from infermesh_worker.engine_process.formats.format_compiler import FormatCompiler

_MAX_FORMATS = 64
"""Formats that may wait to be compiled, at up to two seconds each."""
_REMEMBERED = 1024
"""Refused formats to remember, so that a client that repeats one costs nothing."""


class FormatGate:
    """Requests that wait for their format. Used from the engine's thread."""

    def __init__(self, compiler: FormatCompiler, cache: GrammarCache) -> None:
        self._compiler = compiler
        self._cache = cache
        self._held: dict[OutputFormat, dict[str, GenerationRequest]] = {}
        self._refused: OrderedDict[OutputFormat, InfermeshError] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many choices wait."""
        return sum(request.n for requests in self._held.values() for request in requests.values())

    def hold(self, request: GenerationRequest) -> bool:
        """Whether the request must wait; `released` gives it back.

        Raises InvalidArgument for a format that was refused before, and ResourceExhausted when too many formats wait.
        """
        output_format = request.output_format
        if output_format is None or output_format in self._cache:
            return False
        if (error := self._refused.get(output_format)) is not None:
            raise error
        if output_format not in self._held:
            if len(self._held) >= _MAX_FORMATS:
                problem = f"{_MAX_FORMATS} output formats are already waiting to be compiled. Retry in 5 s."
                raise ResourceExhausted(problem, reason="QUEUE_FULL", retry_after_s=5.0)
            self._held[output_format] = {}
            self._compiler.start(output_format)
        self._held[output_format][request.request_id] = request
        return True

    def cancel(self, request_id: str) -> None:
        """Forgets a request. Its format is compiled all the same."""
        for requests in self._held.values():
            requests.pop(request_id, None)

    def released(self) -> Iterator[tuple[GenerationRequest, InfermeshError | None]]:
        """The requests whose format is now compiled, or refused with an error.

        Submit each before asking for the next: a format may leave the cache when another one enters it.
        """
        while (compiled := self._compiler.take()) is not None:
            if compiled.matcher is not None:
                self._cache.add(compiled.output_format, compiled.matcher, compiled.memory_bytes)
            elif compiled.permanent and compiled.error is not None:
                self._refused[compiled.output_format] = compiled.error
                if len(self._refused) > _REMEMBERED:
                    self._refused.popitem(last=False)
            for request in self._held.pop(compiled.output_format, {}).values():
                yield request, compiled.error
