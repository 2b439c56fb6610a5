"""Tries output formats in a process of their own, where a costly one can be killed: bounded in time and memory.

The engine process starts it as `python -m infermesh_worker.engine_process.formats.format_trial --fd N --parent PID`. It
indexes the vocabulary once, and forks for each format, so that whatever the format does dies with the fork. It stays
single-threaded: a fork of several threads could hang.
"""

import argparse
import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NoReturn

import msgspec
import psutil

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import index_vocabulary
from infermesh_engine.sampling.grammars.trial import try_format
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.processes.parent import die_with

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_NICE = 10
_OUT_OF_MEMORY = 12
_MEBIBYTE = 1 << 20
PATIENCE = 3
"""A trial on a busy machine may take this many times its limit, as long as it has not had that much processor time."""
_SHORTEST_WAIT_S = 0.05


class Vocabulary(msgspec.Struct, array_like=True, frozen=True):
    """Engine to trial, once."""

    tokenizer: str
    """The text of tokenizer.json."""
    eos_token_ids: frozenset[int]


class TrialRequest(msgspec.Struct, array_like=True, frozen=True):
    """Engine to trial: try this format."""

    output_format: OutputFormat
    timeout_s: float
    memory_bytes: int


class Verdict(msgspec.Struct, array_like=True, frozen=True):
    """Trial to engine: whether the format may be compiled."""

    problem: str = ""
    """Why not, for the client; empty if it may."""
    starved: bool = False
    """Whether the trial got too little processor time to tell, so that the problem may not come again."""
    memory_bytes: int = 0
    """How much the process grew by it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="infermesh_worker.engine_process.formats.format_trial", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the socket to the engine process")
    parser.add_argument("--parent", type=int, required=True, help="process id of the engine process; ends with it")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(EOFError):
        _serve(Connection(options.fd))
    return 0


def _serve(engine: Connection) -> None:
    """Answers requests. Raises EOFError when the engine process has closed the connection."""
    vocabulary = msgspec.msgpack.decode(engine.recv_bytes(), type=Vocabulary)
    tokenizer = index_vocabulary(vocabulary.tokenizer, vocabulary.eos_token_ids)
    engine.send_bytes(msgspec.msgpack.encode(Verdict()))
    while True:
        request = msgspec.msgpack.decode(engine.recv_bytes(), type=TrialRequest)
        engine.send_bytes(msgspec.msgpack.encode(_try_in_fork(tokenizer, request)))


def _try_in_fork(tokenizer: "LLTokenizer", request: TrialRequest) -> Verdict:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_trial(tokenizer, request, writer)
    os.close(writer)
    try:
        ready = _wait(reader, child, request.timeout_s)
        if not ready:
            os.kill(child, signal.SIGKILL)
        answer = _read_all(reader) if ready else b""
    finally:
        os.close(reader)
        _, status, used = os.wait4(child, 0)
    if answer:
        return msgspec.msgpack.decode(answer, type=Verdict)
    starved = not ready and used.ru_utime + used.ru_stime < request.timeout_s / 2
    return Verdict(_explain(os.waitstatus_to_exitcode(status), request), starved)


def _wait(reader: int, child: int, timeout_s: float) -> bool:
    """Whether the fork answers before it has used `timeout_s` of processor time, or PATIENCE times that has passed."""
    process, deadline_s, wait_s = psutil.Process(child), time.monotonic() + PATIENCE * timeout_s, timeout_s
    while not select.select([reader], [], [], wait_s)[0]:
        used = process.cpu_times()
        left_s = min(timeout_s - used.user - used.system, deadline_s - time.monotonic())
        if left_s <= 0:
            return False
        wait_s = max(_SHORTEST_WAIT_S, left_s)
    return True


def _be_the_trial(tokenizer: "LLTokenizer", request: TrialRequest, writer: int) -> NoReturn:
    """Runs in the fork. It ends without the interpreter's clean-up, which belongs to the parent."""
    status = _OUT_OF_MEMORY
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a dying library prints is no line of our log
        process = psutil.Process()
        before = process.memory_info()
        most_bytes = before.vms + request.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
        problem = ""
        try:
            try_format(tokenizer, request.output_format)
        except InfermeshError as error:
            problem = next(iter(error.fields.values()), error.message)
        grown_bytes = max(0, process.memory_info().rss - before.rss)
        os.write(writer, msgspec.msgpack.encode(Verdict(problem, memory_bytes=grown_bytes)))
        status = 0
    finally:
        os._exit(status)


def _read_all(reader: int) -> bytes:
    """What the fork wrote: less than a pipe holds, so it comes in one piece or not at all."""
    return os.read(reader, select.PIPE_BUF)


def _explain(status: int, request: TrialRequest) -> str:
    """Why a trial ended without a verdict."""
    if status == -signal.SIGKILL:
        return f"too complex: compiling it takes more than {request.timeout_s:g} s"
    if status in (_OUT_OF_MEMORY, -signal.SIGABRT):
        return f"too complex: compiling it takes more than {request.memory_bytes // _MEBIBYTE} MiB of memory"
    return "too complex: compiling it fails"


if __name__ == "__main__":
    sys.exit(main())
