"""Runs a server's process: ready once its health URL answers, stopped by its process id, with all its children."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.installing import PeerError, reason

_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready."""

    port: int
    pid: int
    """Of its first process, whose children belong to it."""
    ready_s: float


@dataclass(frozen=True, slots=True)
class Start:
    """How a server is started."""

    name: str
    command: Sequence[str]
    port: int
    log: Path
    """Takes what it prints."""
    limit_s: float
    """How long it may take until it is ready."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables, beside those of this process."""


@contextmanager
def running(start: Start) -> Iterator[Running]:
    """Runs a server. Raises PeerError if it ends, or is not ready in time."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("INFERMESH_")}
    began_s = time.monotonic()
    with start.log.open("wb") as output:
        env = clean | dict(start.settings)
        process = subprocess.Popen(start.command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait(start, process, began_s + start.limit_s)
        yield Running(start.port, process.pid, time.monotonic() - began_s)
    finally:
        stop(process)


def _wait(start: Start, process: subprocess.Popen[bytes], deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            why = reason(start.log.read_text(errors="replace"))
            raise PeerError(f"{start.name} ended with {process.returncode} before it was ready: {why} ({start.log})")
        try:
            if httpx.get(f"http://127.0.0.1:{start.port}/health", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise PeerError(f"{start.name} did not answer /health with 200 within {start.limit_s:g} s ({start.log})")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started, by force after a while."""
    family = _family(process.pid)
    process.terminate()
    psutil.wait_procs(family, _STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its session's, even those that outlived it
    process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _sum(pid: int, figure: Callable[[psutil.Process], float]) -> float:
    """The sum over a server's processes, without those that end meanwhile."""
    total = 0.0
    for each in _family(pid):
        with suppress(psutil.NoSuchProcess):
            total += figure(each)
    return total


def memory_mb(pid: int) -> float:
    """Memory of a server's processes in MB of 10⁶ bytes; what they share is counted once."""
    return round(_sum(pid, lambda process: process.memory_full_info().pss) / 1e6, 1)


def cpu_s(pid: int) -> float:
    """Processor time that a server's processes have used so far."""
    return _sum(pid, lambda process: sum(process.cpu_times()[:2]))
