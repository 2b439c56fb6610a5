"""Thousands of malformed and hostile requests: no answer says that the mesh broke, and no log has a traceback.

FUZZ_REQUESTS=10000 runs the long form, with new requests each time; the short one always sends the same.
We make the requests with hypothesis: about half are valid and reach a model, and some are no JSON at all. `make
test-clients` has schemathesis, which makes others from /openapi.json.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from infermesh_router.testing.keys import bearer, write_keys_of
from tests.e2e.mesh import ROUTER, SIMULATED, Mesh, Program
from tests.security import fuzz_requests as fuzz

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "400"))
BROKEN = ("Traceback", "Internal error", '"level":"error"', '"level": "error"', "[lua]", "PANIC", "panicked")
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE}
SERVICE = "/infermesh.inference.v1.InferenceService/"


def share(of_requests: float) -> settings:
    """Hypothesis' settings for a test that sends this share of all requests."""
    return settings(
        max_examples=int(REQUESTS * of_requests),
        derandomize="FUZZ_REQUESTS" not in os.environ,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a failure is told at once: making it smaller would send thousands more
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A simulated worker, a router with keys, and Envoy. At the end, their logs must be clean."""
    folder = tmp_path_factory.mktemp("fuzz")
    keys = write_keys_of(folder / "keys.json", fuzz={"max_priority": 2**31 - 1})
    quick: dict[str, object] = {"sim_itl_s": 0, "sim_slope_s": 0, "sim_prefill_tokens_per_s": 1e9}
    worker = Program(SIMULATED, folder / "worker.log", {**quick, "sim_context_length": 128})
    admin = f"unix:{folder}/admin.sock"
    options: dict[str, object] = {"workers": worker.address, "keys_file": keys, "admin_listen": admin}
    router = Program(ROUTER, folder / "router.log", options)
    mesh = Mesh(folder, [worker], router)
    try:
        mesh.start()
        mesh.wait_ready()
        yield mesh
        check_logs(mesh)
    finally:
        mesh.stop()


def check_logs(mesh: Mesh) -> None:
    """Fails with the line that tells of something broken."""
    told = "\n".join(program.log.read_text(errors="replace") for program in (*mesh.workers, mesh.router))
    for line in (told + mesh.envoy.log()).splitlines():
        assert not any(sign in line for sign in BROKEN), line[:2000]


@pytest.fixture(scope="module")
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as client:
        yield client


@pytest.fixture(scope="module")
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mesh.envoy.grpc) as opened:
        yield opened


def check(answer: httpx.Response) -> None:
    """Fails if an answer says that the mesh broke, or has not the form of one of ours."""
    event(f"status {answer.status_code}")  # shown by --hypothesis-show-statistics
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.request.method == "HEAD" or answer.request.url.path == "/metrics":
        return
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n"), answer.text
        assert "server_error" not in answer.text, answer.text
    elif answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, answer.text
    elif answer.content and answer.request.url.path != "/":  # words for people
        json.loads(answer.content)


@pytest.mark.timeout(1800)
@share(0.5)
@given(path=st.sampled_from(["/v1/chat/completions", "/v1/completions"]), data=st.data())
def test_bodies(http: httpx.Client, path: str, data: st.DataObject) -> None:
    body, headers = data.draw(fuzz.bodies(path)), data.draw(fuzz.headers)
    check(http.post(path, content=body, headers={"content-type": "application/json", **headers}))


@pytest.mark.timeout(1800)
@share(0.25)
@given(method=fuzz.methods, path=fuzz.paths, headers=fuzz.all_headers, body=st.just(b"") | st.binary(max_size=50))
def test_paths_and_headers(http: httpx.Client, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
    check(http.send(http.build_request(method, path, headers=headers, content=body or None)))


@pytest.mark.timeout(1800)
@share(0.25)
@given(
    method=st.sampled_from(["Generate", "Generate", "Generate", "Embed", "Infer", "Health", "None"]),
    message=fuzz.generate_messages(),
    known=st.sampled_from([True, True, True, False]),
)
def test_grpc(channel: grpc.Channel, method: str, message: bytes, known: bool) -> None:
    call = channel.unary_stream(SERVICE + method)(message, metadata=bearer("fuzz") if known else (), timeout=60)
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass
    event(f"status {call.code().name}")
    assert call.code() not in FAULTS, (call.code(), call.details())


def test_the_mesh_still_answers(http: httpx.Client, mesh: Mesh) -> None:
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    answer = http.post("/v1/chat/completions", json=body, headers=dict(bearer("fuzz")))
    assert answer.json()["usage"]["completion_tokens"] == 3
    check_logs(mesh)


def test_the_signs_are_what_our_logs_have() -> None:
    """The log check can fail: a handler that breaks leaves one of the signs."""
    script = (
        "import logging; from infermesh_runtime import logs; logs.configure('info')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('x').exception('a handler failed')"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert any(sign in told.stderr + told.stdout for sign in BROKEN)
