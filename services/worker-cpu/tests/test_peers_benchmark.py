"""The benchmarks beside peers: the shape of their documents, the client against a stand-in, and peers that fail."""

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from benchmarks.engine.contestant_http import body, itl_figures, run_all
from benchmarks.engine.mesh import measure_drawn, measure_questions
from benchmarks.engine.questions import DRAWN, NEW_TOKENS, Asked, Asker
from benchmarks.engine.running_mesh import free_port
from benchmarks.peers.__main__ import Measured, compare, measure
from benchmarks.peers.installing import PeerError, install, reason
from benchmarks.peers.processes import Running, Start, cpu_s, memory_mb, running
from benchmarks.peers.servers import Plan

STAND_IN = """
import http.server, json, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["model"] != "stand-in":
            return self.send_error(404)
        if self.headers["host"] != "127.0.0.1":  # the mesh refuses names that it does not know
            return self.send_error(403)
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked["max_tokens"]}
        for chunk in ({"choices": [{"text": "a"}]}, {"choices": [], "usage": usage}):
            self.wfile.write(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\\n\\n")
        self.wfile.write(b"data: [DONE]\\n\\n")

    def log_message(self, *_): ...

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def start_of(command: list[str], port: int, log: Path) -> Start:
    return Start("stand-in", command, port, log, limit_s=60.0)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-c", STAND_IN, str(port)]
    with running(start_of(command, port, tmp_path_factory.mktemp("log") / "log")) as found:
        yield found
    assert not psutil.pid_exists(found.pid)


@dataclass(frozen=True, slots=True)
class Steady:
    """A contestant of a given speed, in tokens per second."""

    speed: float
    asked: list[str] = field(default_factory=list)

    def run(self, round_number: int, streams: int, **more: str) -> dict[str, Any]:
        self.asked.append(more["name"])
        tokens = streams * NEW_TOKENS
        times = {"ttft_ms": 9.0, "itl_ms": 1.0, "itl_p95_ms": 2.0, "python_ms_per_step": 1.0}
        return {"seconds": tokens / self.speed, "tokens": tokens, "steps": NEW_TOKENS, **times}


@dataclass(frozen=True, slots=True)
class Broken:
    """A peer that does not install."""

    name: str
    weights: str = "none"

    @contextmanager
    def start(self, plan: Plan) -> Iterator[Running]:
        raise PeerError(f"{self.name} cannot be installed here: no wheel for {plan.streams} streams")
        yield


def test_the_client_counts_tokens_and_times_of_a_stand_in(stand_in: Running) -> None:
    requests = [Asked(token_ids=(1, 2, 3), ignore_eos=True) for _ in range(3)]
    figures = asyncio.run(run_all(stand_in.port, "stand-in", requests))
    assert figures["tokens"] == 3 * NEW_TOKENS
    assert 0 < figures["ttft_ms"] <= figures["seconds"] * 1e3
    assert figures["itl_ms"] <= figures["itl_p95_ms"]


@pytest.mark.parametrize("gaps", [[], [1.0], [1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
def test_no_95th_percentile_is_below_the_median(gaps: list[float]) -> None:
    found = itl_figures(gaps)
    assert found["itl_ms"] <= found["itl_p95_ms"] <= max(gaps, default=0.0) * 1e3
    assert found["itl_p95_ms"] >= 0.8 * 1e3 * max(gaps, default=0.0)


def test_the_client_refuses_an_error(stand_in: Running) -> None:
    with pytest.raises(RuntimeError, match="404"):
        asyncio.run(run_all(stand_in.port, "another", [Asked(token_ids=(1,))]))


def test_documents_of_peers_compare_each_server_with_the_mesh() -> None:
    here = Running(port=1, pid=os.getpid(), ready_s=1.0)
    contestants = {name: Measured(Steady(speed), here) for name, speed in {"mesh": 300.0, "llama.cpp": 100.0}.items()}
    result = compare(contestants, DRAWN, 8, rounds=2)
    assert (result["set"], result["streams"]) == (DRAWN, 8)
    assert result["tokens_per_s"] == {"mesh": 300.0, "llama.cpp": 100.0}
    assert result["mesh_over"] == {"llama.cpp": 3.0}
    for figure in ("ttft_ms", "itl_ms", "itl_p95_ms", "cpu_ms_per_token"):
        assert result[figure].keys() == contestants.keys(), figure
    assert json.loads(json.dumps(result)) == result


def test_bench_reports_engine_and_mesh_without_and_with_guesses() -> None:
    speeds = {"genai": 100.0, "engine": 200.0, "engine_speculating": 300.0, "mesh": 190.0, "mesh_speculating": 285.0}
    contestants = {name: Steady(speed) for name, speed in {**speeds, "engine_exact": 50.0}.items()}
    drawn = measure_drawn(contestants, 2, rounds=1)
    assert drawn["tokens_per_s"].keys() == contestants.keys()
    assert (drawn["exact_over_fast"], drawn["engine_over_genai"]) == (0.25, 2.0)
    questions = measure_questions(contestants, "quotes", 2, rounds=1)
    assert questions["set"] == "quotes"
    assert questions["tokens_per_s"] == speeds
    assert (questions["engine_speculating_over_engine"], questions["mesh_speculating_over_mesh"]) == (1.5, 1.5)
    assert contestants["genai"].asked == [DRAWN, DRAWN, "quotes", "quotes"]


def test_a_run_without_any_peer_says_why(tmp_path: Path) -> None:
    plan = Plan(tmp_path, 8, [0], ready_limit_s=1.0)
    options = argparse.Namespace(rounds=1, streams=[1], sets=[DRAWN])
    with pytest.raises(SystemExit, match=r"No peer could be had(.|\n)*vllm cannot be installed here: no wheel for 8"):
        measure([Broken("llama.cpp"), Broken("vllm")], plan, options)


def test_a_server_that_ends_is_refused_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('error: no such option')"]
    with (
        pytest.raises(PeerError, match="ended with 1 before it was ready: error: no such option"),
        running(start_of(command, free_port(), tmp_path / "log")),
    ):
        pass


def test_what_an_ended_server_started_ends_too(tmp_path: Path) -> None:
    script = "import subprocess, sys; print('error', subprocess.Popen(['sleep', '600']).pid); sys.exit(1)"
    with (
        pytest.raises(PeerError) as raised,
        running(start_of([sys.executable, "-c", script], free_port(), tmp_path / "log")),
    ):
        pass
    child = int(re.findall(r"error (\d+)", str(raised.value))[0])
    with suppress(psutil.NoSuchProcess):  # it may be gone already
        psutil.Process(child).wait(timeout=30)
    assert not psutil.pid_exists(child)


def test_a_process_that_has_just_ended_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = psutil.Popen([sys.executable, "-c", ""])
    gone = psutil.Process(ended.pid)
    ended.wait()
    family = [psutil.Process(), gone]
    monkeypatch.setattr("benchmarks.peers.processes._family", lambda _pid: family)
    assert cpu_s(os.getpid()) > 0
    assert memory_mb(os.getpid()) > 0


def test_a_venv_that_has_the_lock_is_kept(tmp_path: Path) -> None:
    lock, venv = tmp_path / "peer.lock", tmp_path / "venv-peer-some"
    lock.write_text("some-server==1.0\n")
    venv.mkdir()
    (venv / ".installed").write_text(lock.read_text())
    assert install("some", lock, build=tmp_path) == venv / "bin"


def test_an_installation_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (tmp_path / "peer.lock").write_text("some-server==1.0\n")
    with pytest.raises(PeerError, match="some cannot be installed here: it printed nothing"):
        install("some", tmp_path / "peer.lock", build=tmp_path)
    assert reason("ERROR: No matching distribution found for a==1\n\nbye\n").endswith("found for a==1")


def test_questions_are_new_in_each_round_and_the_same_for_all(tmp_path: Path) -> None:
    tokenizer = Tokenizer(BPE({chr(byte): byte for byte in range(1, 128)}, []))  # one token a character
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    asker = Asker(tmp_path)
    assert asker(1, 4) == Asker(tmp_path)(1, 4)
    assert asker(1, 4) != asker(2, 4)
    assert [asked.seed for asked in asker(2, 3, "free chat")] == [6, 7, 8]
    rounds = [asker(number, streams, "quotes") for number in range(3) for streams in (1, 8, 32)]
    assert len({asked.token_ids for asks in rounds for asked in asks}) == 3 * (1 + 8 + 32)
    chat, edit = asker(0, 1, "free chat")[0], asker(0, 1, "code edit")[0]
    assert (chat.sampled, edit.sampled, edit.stop) == (True, False, ("```",))
    asked = json.loads(body("some", chat))
    assert (asked["seed"], asked["temperature"], asked["ignore_eos"], "stop" in asked) == (0, 0.8, False, False)
