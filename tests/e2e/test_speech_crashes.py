"""Workers die while they transcribe and speak: clients get every part of the answer, and none twice."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_worker.testing.simulated_speech import sound_of, texts_of
from tests.e2e.mesh import POLL_S, SIMULATED, Mesh, NewMesh, Program

pytestmark = pytest.mark.timeout(120)

SOUND = b"what was said" * 1000
SEGMENTS = 8
TEXT = "One. Two! Three? Four. Five. Six."
SETTINGS = {
    "model": "ears",
    "sim_models": "mouth:1000",
    "sim_transcribers": "ears",
    "sim_speakers": "mouth",
    "sim_segments": SEGMENTS,
    "sim_part_s": 0.15,
}
KILLS: dict[str, Callable[[Program], None]] = {
    "worker": Program.kill,
    "engine process": lambda program: os.kill(program.engine_pid(), signal.SIGKILL),
}


@pytest.fixture(scope="module")
def speech_mesh(new_mesh: NewMesh) -> Mesh:
    """Two workers with models of both kinds."""
    never = {"breaker_failures": 1_000_000, "breaker_failure_rate": 1.0}  # as every test kills workers
    mesh = new_mesh([(SIMULATED, SETTINGS)] * 2, failover_wait_s=2, **never)
    mesh.start()
    return mesh


@pytest.fixture
def mesh(speech_mesh: Mesh) -> Mesh:
    """The same with all of its workers and models."""
    for worker in speech_mesh.workers:
        if worker.process.poll() is not None:
            worker.start()
    speech_mesh.wait_ready()
    for worker in speech_mesh.workers:
        load(worker, "mouth")
    speech_mesh.wait_ready()
    return speech_mesh


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as client:
        yield client


def load(worker: Program, model: str) -> None:
    with grpc.insecure_channel(worker.address) as channel:
        admin_pb2_grpc.EndpointServiceStub(channel).LoadModel(admin_pb2.LoadModelRequest(model=model), timeout=30)


def answering(mesh: Mesh, answer: httpx.Response) -> Program:
    address = answer.headers["x-infermesh-endpoint"]
    return next(worker for worker in mesh.workers if worker.address == address)


def form(**fields: str) -> dict[str, Any]:
    return {"files": {"file": ("a.wav", SOUND)}, "data": {"model": "ears", **fields}}


@pytest.mark.parametrize("victim", KILLS)
def test_a_transcription_goes_on_elsewhere(mesh: Mesh, http: httpx.Client, victim: str) -> None:
    with http.stream("POST", "/v1/audio/transcriptions", **form(stream="true")) as answer:
        events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        seen = [next(events), next(events)]
        KILLS[victim](answering(mesh, answer))
        *deltas, done = seen + list(events)
    wanted = list(texts_of(SOUND, SEGMENTS))
    assert [event["delta"] for event in deltas] == [wanted[0].lstrip(), *wanted[1:]]
    assert done["text"] == "".join(wanted).strip()
    (move,) = done["infermesh"]["failovers"]
    assert move["from"] == answer.headers["x-infermesh-endpoint"] != move["to"]


def test_speech_goes_on_elsewhere(mesh: Mesh, http: httpx.Client) -> None:
    body = {"model": "mouth", "input": TEXT, "response_format": "pcm"}
    with http.stream("POST", "/v1/audio/speech", json=body) as answer:
        chunks = answer.iter_bytes()
        begun = next(chunks)
        answering(mesh, answer).kill()
        samples = np.frombuffer(begun + b"".join(chunks), "<i2") / 32_767
    wanted = np.concatenate(list(sound_of(TEXT)))
    assert samples.shape == wanted.shape
    assert np.abs(samples - wanted).max() < 1e-4


def test_before_the_first_segment_another_worker_answers_from_the_beginning(mesh: Mesh) -> None:
    """The router's native stream tells where it began, and that nothing had to be moved."""
    stopped, other = mesh.workers
    os.kill(stopped.engine_pid(), signal.SIGSTOP)  # it takes requests, and never answers
    with grpc.insecure_channel(mesh.router.address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        sounds = [SOUND + bytes([number]) for number in range(2)]
        calls = [stub.Transcribe(pb.TranscribeRequest(audio=sound, model="ears"), timeout=60) for sound in sounds]
        wait_busy(mesh, stopped)
        stopped.kill()
        answers = [list(call) for call in calls]
    for sound, (started, *segments, finished) in zip(sounds, answers, strict=True):
        assert started.started.endpoint == other.address
        assert [event.segment.text for event in segments] == list(texts_of(sound, SEGMENTS))
        assert not finished.finished.failovers


def wait_busy(mesh: Mesh, worker: Program) -> None:
    """Returns once the router has sent a worker a request."""
    with grpc.insecure_channel(mesh.admin) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        while True:
            listed = stub.ListEndpoints(admin_pb2.ListEndpointsRequest(), timeout=5).endpoints
            if any(each.address == worker.address and each.in_flight for each in listed):
                return
            time.sleep(POLL_S)


def test_without_another_worker_clients_are_told(mesh: Mesh, http: httpx.Client) -> None:
    """Events tell the error. A sound file cannot, so it is cut off in a way that does not look complete."""
    body = {"model": "mouth", "input": TEXT, "response_format": "wav"}
    with (
        http.stream("POST", "/v1/audio/transcriptions", **form(stream="true")) as text,
        http.stream("POST", "/v1/audio/speech", json=body) as sound,
    ):
        events = (line[6:] for line in text.iter_lines() if line.startswith("data: "))
        chunks = sound.iter_bytes()
        next(events)
        next(chunks)
        for worker in mesh.workers:
            worker.kill()
        *_, failure, end = list(events)
        with pytest.raises(httpx.RemoteProtocolError):
            list(chunks)
    assert end == "[DONE]"
    assert json.loads(failure)["error"]["type"] == "server_error"
