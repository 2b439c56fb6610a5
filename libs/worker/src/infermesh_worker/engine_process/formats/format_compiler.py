"""Compiles output formats beside the engine's steps: tries each in the trial process, then compiles it in a thread.

llguidance lets other threads run while it compiles, but can be neither interrupted nor bounded. So only what the trial
process got through in time and memory is compiled here.
"""

import logging
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import msgspec
from tokenizers import Tokenizer

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import GrammarState, compile_matcher
from infermesh_engine.sampling.grammars.source import check_size, refusal
from infermesh_runtime.errors import InfermeshError, Internal, Unavailable
from infermesh_worker.engine_process.formats.format_trial import PATIENCE, TrialRequest, Verdict, Vocabulary
from infermesh_worker.engine_process.frames import FormatLimits

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_START_S = 60.0
"""Longest wait for the trial process to index the vocabulary: 2.4 s for 262,000 tokens on an idle machine."""
_GRACE_S = 5.0
"""How much longer than a trial's own time limit its answer may take."""
_NICE = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of a format: a matcher, or the error for everyone who asked for it."""

    output_format: OutputFormat
    matcher: "LLMatcher | None" = None
    memory_bytes: int = 0
    error: InfermeshError | None = None
    permanent: bool = False
    """Whether the error stays the same if somebody asks again."""


class FormatCompiler:
    """Compiles formats one after another, in a thread that lives as long as the process."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_token_ids: frozenset[int],
        prepare: Callable[[], "LLTokenizer"],
        limits: FormatLimits,
        on_done: Callable[[], None],
    ) -> None:
        """`prepare` indexes the tokenizer's vocabulary, or gives the index that there is.

        `on_done` is called in the thread after each format; `take` then gives the result.
        """
        self._tokenizer = tokenizer
        self._eos_token_ids = eos_token_ids
        self._prepare = prepare
        self._limits = limits
        self._on_done = on_done
        self._asked: queue.SimpleQueue[OutputFormat | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Compiled] = queue.SimpleQueue()
        self._trial: _TrialProcess | None = None
        self._thread: threading.Thread | None = None

    def start(self, output_format: OutputFormat) -> None:
        """Asks for a format to be compiled."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="format compiler", daemon=True)
            self._thread.start()
        self._asked.put(output_format)

    def stop(self) -> None:
        """Ends the thread and the trial process, after what was asked before. The end of the process does it too."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()

    def take(self) -> Compiled | None:
        """The next result, or None. Does not wait."""
        try:
            return self._done.get_nowait()
        except queue.Empty:
            return None

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (output_format := self._asked.get()) is not None:
            self._done.put(self._compile(output_format))
            self._on_done()
        if self._trial is not None:
            self._trial.stop()
            self._trial = None

    def _compile(self, output_format: OutputFormat) -> Compiled:
        try:
            tokenizer = self._prepare()
            check_size(output_format)
            memory_bytes = self._try(output_format)
            matcher = compile_matcher(tokenizer, output_format)
            # llguidance builds its lexer with the first mask; copies of the matcher share it
            GrammarState(matcher.deep_copy(), output_format, frozenset()).allowed_bits()
        except Unavailable as error:
            return Compiled(output_format, error=error)
        except InfermeshError as error:
            return Compiled(output_format, error=error, permanent=True)
        except BaseException:  # a panic in a Rust library is not an Exception, and somebody waits for the answer
            _log.exception("could not compile an output format")
            return Compiled(output_format, error=Internal("The output format could not be compiled."))
        return Compiled(output_format, matcher, memory_bytes)

    def _try(self, output_format: OutputFormat) -> int:
        """The bytes that the format takes, by its trial.

        Raises InvalidArgument when it may not be compiled, and Unavailable when the trial could not tell.
        """
        verdict = self._ask(output_format)
        if verdict.starved:
            problem = "The machine is too busy to compile this output format now."
            raise Unavailable(problem, reason="FORMATS_UNAVAILABLE", retry_after_s=5.0)
        if verdict.problem:
            raise refusal(output_format, verdict.problem)
        return verdict.memory_bytes

    def _ask(self, output_format: OutputFormat) -> Verdict:
        """The trial process' verdict. Raises Unavailable when there is none; the process is started again then."""
        try:
            if self._trial is None:
                self._trial = _TrialProcess(Vocabulary(self._tokenizer.to_str(), self._eos_token_ids))
            request = TrialRequest(output_format, self._limits.timeout_s, self._limits.memory_bytes)
            return self._trial.ask(request, PATIENCE * self._limits.timeout_s + _GRACE_S)
        except (OSError, EOFError) as error:
            _log.warning("the trial process of output formats failed", extra={"reason": repr(error)})
            if self._trial is not None:
                self._trial.stop()
                self._trial = None
            problem = "Output formats cannot be compiled at the moment."
            raise Unavailable(problem, reason="FORMATS_UNAVAILABLE", retry_after_s=1.0) from error


class _TrialProcess:
    """A running trial process."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Starts it and waits until it is ready. Raises OSError and EOFError."""
        ours, theirs = socket.socketpair()
        module = "infermesh_worker.engine_process.formats.format_trial"
        with theirs:
            arguments = ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._connection = Connection(ours.detach())
        try:
            self._exchange(vocabulary, _START_S)
        except BaseException:
            self.stop()
            raise

    def ask(self, request: TrialRequest, timeout_s: float) -> Verdict:
        """The verdict on a format. Raises OSError and EOFError; call `stop` then."""
        return self._exchange(request, timeout_s)

    def stop(self) -> None:
        """Kills the process. A fork of it, which could still run, dies of its own limits."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _exchange(self, message: Vocabulary | TrialRequest, timeout_s: float) -> Verdict:
        self._connection.send_bytes(msgspec.msgpack.encode(message))
        if not self._connection.poll(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Verdict)
