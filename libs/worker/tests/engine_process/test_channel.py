"""The engine process's loop against a front that reads late, never, or goes away."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal, cast

import pytest

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.request import GenerationRequest, StopConditions
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_worker.engine_process.channel import Channel, ParentGoneError
from infermesh_worker.engine_process.frames import (
    CancelCommand,
    CrashReport,
    EngineReport,
    FrameReader,
    LoadedReport,
    PingCommand,
    ShutdownCommand,
    StepReport,
    SubmitCommand,
    pack,
    report_decoder,
    step_report,
)
from infermesh_worker.engine_process.process import EngineLoop
from infermesh_worker.testing.simulated_engine import VOCAB_SIZE, build_tokenizer

Sockets = tuple[socket.socket, socket.socket]
"""The front's end and the engine process's end."""


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        yield ours, theirs


def engine_loop(sock: socket.socket, mode: Literal["auto", "off"] = "off") -> tuple[EngineLoop, Channel, Engine]:
    clock = VirtualClock()
    options = SimulatedOptions(vocab_size=VOCAB_SIZE, checks_drafts=True)
    runner = SimulatedRunner(options, clock=clock, sleep=clock.sleep)
    speculation = SpeculationOptions(mode=mode)
    config = EngineConfig(max_sequences=4, max_batched_tokens=64, speculation=speculation)
    engine = Engine(runner, build_tokenizer(), frozenset(), config, clock)
    channel = Channel(sock, max_pending_bytes=8192)
    return EngineLoop(engine, runner, channel, clock), channel, engine


def request(request_id: str = "1", max_tokens: int = 2000) -> GenerationRequest:
    stop = StopConditions(max_tokens=max_tokens)
    return GenerationRequest(request_id=request_id, prompt_token_ids=(1, 2), seed=0, stop=stop)


def reports(sock: socket.socket) -> Iterator[EngineReport]:
    reader = FrameReader()
    while data := sock.recv(65536):
        for payload in reader.feed(data):
            yield report_decoder.decode(payload)


@pytest.mark.parametrize(("mode", "guesses"), [("auto", True), ("off", False)])
def test_the_front_hears_whether_guesses_are_checked(
    sockets: Sockets, mode: Literal["auto", "off"], guesses: bool
) -> None:
    ours, theirs = sockets
    loop, *_ = engine_loop(theirs, mode)
    ours.sendall(pack(ShutdownCommand()))
    loop.run()
    loaded = next(reports(ours))
    assert isinstance(loaded, LoadedReport)
    assert loaded.info.checks_drafts == guesses


def test_front_that_reads_late_gets_everything(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, channel, _ = engine_loop(theirs)
    ours.sendall(pack(SubmitCommand(request())))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(loop.run)
        tokens = 0
        for report in reports(ours):
            if isinstance(report, StepReport):
                tokens += sum(len(delta[3]) for delta in report.deltas)
                if report.finished:
                    break
        ours.sendall(pack(ShutdownCommand()))
        running.result(20)
    assert tokens == 2000
    assert not channel.congested


def test_front_that_never_reads_stops_the_work_but_not_the_commands(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, _, engine = engine_loop(theirs)
    ours.sendall(pack(SubmitCommand(request(max_tokens=8000))))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(loop.run)
        # The engine makes frames until nobody takes them; when it has stopped it still hears us.
        ours.sendall(pack(CancelCommand("1")) + pack(SubmitCommand(request("2", 8000))))
        ours.sendall(pack(ShutdownCommand()))
        running.result(20)
    assert engine.has_work


def test_what_changed_while_the_front_did_not_read_is_told_when_it_does(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, channel, engine = engine_loop(theirs)
    ours.sendall(pack(SubmitCommand(request(max_tokens=8000))))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(loop.run)
        while not channel.congested:
            assert not running.done()
        ours.sendall(pack(CancelCommand("1")))
        while engine.has_work:
            assert not running.done()
        steps = (report for report in reports(ours) if isinstance(report, StepReport))
        idle = next(step for step in steps if step.load is not None and step.load.running == 0)
        ours.sendall(pack(ShutdownCommand()))
        running.result(20)
    assert idle.load is not None
    assert idle.load.kv_cache_usage == 0


def test_the_last_step_tells_that_nothing_runs_any_more(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, _, _ = engine_loop(theirs)
    ours.sendall(pack(SubmitCommand(request(max_tokens=3))))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(loop.run)
        last = next(report for report in reports(ours) if isinstance(report, StepReport) and report.finished)
        ours.sendall(pack(ShutdownCommand()))
        running.result(20)
    assert last.load is not None
    assert (last.load.running, last.load.kv_cache_usage) == (0, 0)


def test_a_ping_is_answered_with_the_load(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, _, _ = engine_loop(theirs)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(loop.run)
        received = reports(ours)
        assert isinstance(next(received), LoadedReport)
        for _ in range(2):
            ours.sendall(pack(PingCommand()))
            answer = next(received)
            assert isinstance(answer, StepReport)
            assert answer.load is not None
        ours.sendall(pack(ShutdownCommand()))
        running.result(20)


def test_pending_bytes_are_bounded_and_kept_in_order(sockets: Sockets) -> None:
    ours, theirs = sockets
    channel = Channel(theirs, max_pending_bytes=8192)
    sent = 0
    while not channel.congested:
        channel.send(step_report([], [], None, sent))
        sent += 1
    with ThreadPoolExecutor() as pool:
        draining = pool.submit(channel.drain)
        received = [cast(StepReport, report).memory_free_bytes for report in islice(reports(ours), sent)]
        draining.result(20)
    assert received == list(range(sent))
    assert not channel.congested


def test_loop_says_what_it_loaded_first(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, _, _ = engine_loop(theirs)
    ours.sendall(pack(ShutdownCommand()))
    loop.run()
    first = next(reports(ours))
    assert isinstance(first, LoadedReport)
    assert first.info.vocab_size == VOCAB_SIZE


def test_refused_request_is_told_and_the_others_go_on(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, _, _ = engine_loop(theirs)
    endless = GenerationRequest(request_id="9", prompt_token_ids=(1,) * 9000, seed=0)
    ours.sendall(pack(SubmitCommand(endless)) + pack(SubmitCommand(request(max_tokens=3))))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(loop.run)
        failed, finished = [], []
        for report in reports(ours):
            if isinstance(report, StepReport):
                failed += report.failed
                finished += report.finished
                if finished:
                    break
        ours.sendall(pack(ShutdownCommand()))
        running.result(20)
    assert [failure.reason for failure in failed] == ["CONTEXT_LENGTH_EXCEEDED"]
    assert [end.request_id for end in finished] == ["1"]


def test_end_of_the_front_ends_the_loop(sockets: Sockets) -> None:
    ours, theirs = sockets
    loop, _, _ = engine_loop(theirs)
    ours.close()
    with pytest.raises(ParentGoneError):
        loop.run()


def test_frames_of_several_threads_do_not_mix(sockets: Sockets) -> None:
    """A thread that ends the process may send the reason while the main thread sends a step."""
    ours, theirs = sockets
    channel = Channel(theirs)
    frames = [CrashReport("Error", letter * 20_000) for letter in "abcd"]

    def send(frame: CrashReport) -> None:
        for _ in range(50):
            channel.send(frame)
        channel.drain()

    with ThreadPoolExecutor() as pool:
        senders = [pool.submit(send, frame) for frame in frames]
        received = list(islice(reports(ours), 200))
        for sender in senders:
            sender.result(20)
    assert sorted(set(map(str, received))) == sorted(map(str, frames))
    channel.close()
