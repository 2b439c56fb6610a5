"""The engine process: reads commands from the front, runs engine steps, and reports each step in one frame.

The front starts it as
`python -m infermesh_worker.engine_process.process --fd N --parent PID --build package.module:function`.
"""

import argparse
import gc
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import EngineLoad
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import ModelRunner
from infermesh_runtime import logs
from infermesh_runtime.errors import InfermeshError, Internal
from infermesh_runtime.processes.parent import die_with
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.engine_process.channel import Channel, ParentGoneError
from infermesh_worker.engine_process.crash import EXIT_CRASHED, report_crash, reports_to
from infermesh_worker.engine_process.executor_loop import ExecutorLoop
from infermesh_worker.engine_process.first_pass import check_first_pass
from infermesh_worker.engine_process.formats.format_compiler import FormatCompiler
from infermesh_worker.engine_process.formats.format_gate import FormatGate
from infermesh_worker.engine_process.frames import (
    CancelCommand,
    EngineCommand,
    FormatLimits,
    KvLimitedReport,
    LimitKvCommand,
    LoadedReport,
    PingCommand,
    RequestFailure,
    ShutdownCommand,
    StartCommand,
    SubmitCommand,
    step_report,
)
from infermesh_worker.engine_process.process_memory import give_back_memory, memory_bytes
from infermesh_worker.engine_process.request_gate import RequestGate
from infermesh_worker.engine_process.soundness import Soundness
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.images.gate import ImageGate

_LOAD_INTERVAL_S = 0.1
_MEMORY_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)

Build = Callable[[Mapping[str, Any]], BuiltModel | BuiltExecutor]


class EngineLoop:
    """Runs an engine until the front tells it to stop."""

    def __init__(
        self,
        engine: Engine,
        runner: ModelRunner,
        channel: Channel,
        clock: Callable[[], float] = time.monotonic,
        *,
        gates: Sequence[RequestGate] = (),
        model: str = "",
    ) -> None:
        """`gates`: what a request passes, one after another, before it is submitted. `model` is for errors."""
        self._engine = engine
        self._runner = runner
        self._channel = channel
        self._clock = clock
        self._gates = gates
        self._soundness = Soundness(engine, runner.info, model)
        self._rejected: list[RequestFailure] = []
        self._load_due_s = 0.0
        self._memory_due_s = 0.0
        self._memory_free_bytes = 0
        self._stopping = False

    def run(self) -> None:
        """Serves until a ShutdownCommand. Raises ParentGoneError, whatever the runner raises, and FailedPrecondition.

        The last is for a model that has begun to compute NaN.
        """
        info = replace(self._runner.info, checks_drafts=self._engine.guesses_ahead)
        self._channel.send(LoadedReport(info, self._engine.load(), self._memory(), memory_bytes(info)))
        changed = False
        while not self._stopping:
            if self._channel.congested or not self._engine.has_work:
                self._channel.wait()
            changed |= self._obey()
            changed |= self._release()
            if not self._channel.congested and (self._engine.has_work or self._rejected or changed):
                self._step(changed)
                changed = False

    def _obey(self) -> bool:
        """Executes the commands that have arrived; returns whether there were any."""
        any_came = False
        while (command := self._channel.receive()) is not None:
            self._execute(command)
            any_came = True
        return any_came

    def _execute(self, command: EngineCommand) -> None:
        match command:
            case SubmitCommand(request):
                self._submit(request)
            case CancelCommand(request_id):
                self._cancel(request_id)
            case PingCommand():  # every command is answered with the load; an idle engine also tidies up
                if not self._engine.has_work:
                    self._engine.release_kv()
                    give_back_memory()
            case LimitKvCommand(kv_cache_bytes):
                self._channel.send(KvLimitedReport(self._engine.limit_kv(kv_cache_bytes)))
            case ShutdownCommand():
                self._stopping = True
            case StartCommand():
                raise RuntimeError("the engine process was told to start a second time")

    def _submit(self, request: GenerationRequest) -> None:
        try:
            if not any(gate.hold(request) for gate in self._gates):
                self._engine.submit(request)
        except InfermeshError as error:
            self._rejected.append(RequestFailure.of(request.request_id, error))
        except Exception:  # a bug that one request triggers must not end the others
            _log.exception("could not submit a request")
            self._engine.cancel(request.request_id)
            self._rejected.append(RequestFailure.of(request.request_id, Internal("Internal error in the engine.")))

    def _cancel(self, request_id: str) -> None:
        for gate in self._gates:
            gate.cancel(request_id)
        self._engine.cancel(request_id)

    def _release(self) -> bool:
        """Submits the requests that gates do not hold any longer; returns whether there were any."""
        any_came = False
        for request, error in (each for gate in self._gates for each in gate.released()):
            any_came = True
            if error is not None:
                self._rejected.append(RequestFailure.of(request.request_id, error))
            else:
                self._submit(request)
        return any_came

    def _step(self, changed: bool) -> None:
        outputs = self._soundness.watch(self._engine.step()) if self._engine.has_work else []
        rejected, self._rejected = self._rejected, []
        load = self._load(changed or not self._engine.has_work)
        if outputs or rejected or load is not None:
            self._channel.send(step_report(outputs, rejected, load, self._memory() if load else 0))

    def _load(self, changed: bool) -> EngineLoad | None:
        now_s = self._clock()
        if not changed and now_s < self._load_due_s:
            return None
        self._load_due_s = now_s + _LOAD_INTERVAL_S
        load = self._engine.load()
        held = sum(gate.waiting for gate in self._gates)
        return replace(load, waiting=load.waiting + held) if held else load

    def _memory(self) -> int:
        now_s = self._clock()
        if now_s >= self._memory_due_s:
            self._memory_due_s = now_s + _MEMORY_INTERVAL_S
            self._memory_free_bytes = self._runner.memory_free_bytes()
        return self._memory_free_bytes


def resolve(build: str) -> Build:
    """Imports the function that `package.module:function` names. Raises ValueError, ImportError or AttributeError."""
    module, separator, function = build.partition(":")
    if not separator:
        raise ValueError(f"build must be package.module:function, not {build!r}")
    found: Build = getattr(importlib.import_module(module), function)
    return found


def serve(channel: Channel, build: str, arenas: Sequence[Arena] = ()) -> int:
    """Builds the model that the first frame describes and serves it; returns the process's exit status.

    `arenas`: memory for tensors, shared with the front: the one that it writes and the one that it reads.
    """
    try:
        start = _receive_start(channel)
        logs.configure(start.log_level)
        with reports_to(channel):
            built = resolve(build)(start.options)
        if isinstance(built, BuiltExecutor):
            _serve_executor(built, channel, arenas)
        else:
            _serve_engine(built, start, channel)
    except ParentGoneError:
        return 0
    except BaseException as error:  # a panic in a Rust library is not an Exception, and the front must hear of it too
        _log.exception("the engine process failed")
        report_crash(channel, error)
        return EXIT_CRASHED
    return 0


def _serve_engine(model: BuiltModel, start: StartCommand, channel: Channel) -> None:
    check_first_pass(model)
    config = EngineConfig(
        max_sequences=start.max_sequences,
        max_batched_tokens=start.max_batched_tokens,
        prefix_caching=start.prefix_caching,
        grammar_cache_bytes=start.formats.cache_bytes,
        speculation=start.speculation,
        model=model.name,
    )
    engine = Engine(model.runner, model.tokenizer, model.eos_token_ids, config)
    engine.prepare()
    gc.collect()
    gc.freeze()  # the model stays; without it, a full collection takes microseconds instead of milliseconds
    gates: list[RequestGate] = [_format_gate(engine, model, channel, start.formats)]
    images = ImageGate(model.prepare_image, channel.wake) if model.prepare_image is not None else None
    if images is not None:
        gates.insert(0, images)
    EngineLoop(engine, model.runner, channel, gates=gates, model=model.name).run()
    engine.close()
    if images is not None:
        images.close()


def _serve_executor(built: BuiltExecutor, channel: Channel, arenas: Sequence[Arena]) -> None:
    gc.collect()
    gc.freeze()
    inbox, outbox = arenas
    ExecutorLoop(built, channel, inbox, outbox).run()


def _format_gate(engine: Engine, model: BuiltModel, channel: Channel, limits: FormatLimits) -> FormatGate:
    prepare = engine.grammars.prepare
    compiler = FormatCompiler(model.tokenizer, model.eos_token_ids, prepare, limits, channel.wake)
    return FormatGate(compiler, engine.grammars.cache)


def _receive_start(channel: Channel) -> StartCommand:
    while (command := channel.receive()) is None:
        channel.wait()
    if not isinstance(command, StartCommand):
        raise TypeError(f"the first frame must be StartCommand, not {type(command).__name__}")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="infermesh_worker.engine_process.process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the inherited socket to the front")
    parser.add_argument("--parent", type=int, required=True, help="process id of the front; ends with it")
    parser.add_argument("--build", required=True, help="package.module:function that builds the model")
    parser.add_argument("--arenas", type=int, nargs=2, default=(), help="descriptors of memory shared with the front")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    # The front decides when to stop: a signal to the whole process group must not cut off running streams.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = serve(Channel.from_fd(options.fd), options.build, [Arena.of_file(fd) for fd in options.arenas])
    sys.stderr.flush()
    # Skip the device library's threads and destructors, which could keep the process from ending.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
