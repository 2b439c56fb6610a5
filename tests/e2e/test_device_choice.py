"""worker-cpu, worker-xpu and a simulated GPU behind one router: the requested device answers, and answers agree.

worker-xpu runs torch on CPUs. Both serve the 4-bit default model with exact numerics, as its file stores it
(docs/decisions/0009-gguf-graphs.md).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from rich.console import Console

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from tests.e2e.mesh import CPU, SIMULATED, XPU, Mesh, NewMesh

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="worker-xpu needs torch: make test-xpu")
pytest.importorskip("infermesh_worker_xpu", reason="worker-xpu is not installed: make test-xpu")

MODEL = "smollm2-135m"
READY_TIMEOUT_S = 240.0
TOKENS = 32
PROMPTS = (
    "The sea in winter",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the river, there lived an old clockmaker who",
    "SELECT name, age FROM people WHERE",
    "In 1969,",
    "The recipe calls for flour, eggs and",
    '{\n  "name": "Ada",\n  "age":',
    "To be, or not to be, that is",
)
LOGPROB_TOLERANCE = 5e-3
"""Allowed between the fp32 arithmetic of both; the largest seen in 20 prompts of 48 tokens was 1e-3."""


@pytest.fixture(scope="module")
def models(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models root with the default model, imported by this checkout's converter."""
    root = tmp_path_factory.mktemp("same-weights")
    import_model(str(default_model / "model.gguf"), MODEL, root / "models", ProgressView(Console(quiet=True)))
    return root / "models"


@pytest.fixture(scope="module")
def mesh(models: Path, new_mesh: NewMesh) -> Iterator[Mesh]:
    """Both real workers, none of them on a GPU."""
    shared = {"models": models, "model": MODEL, "numerics": "exact"}
    made = new_mesh([(CPU, shared), (XPU, {**shared, "device": "cpu"})])
    made.start()
    made.wait_ready(READY_TIMEOUT_S)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def accelerated(mesh: Mesh, new_mesh: NewMesh) -> Iterator[Mesh]:
    """The same two workers and a fast simulated CUDA device, behind a router and an Envoy of their own."""
    made = new_mesh([(SIMULATED, {"model": MODEL, "sim_device": "cuda", "sim_itl_s": 0.0005})])
    made.router.settings["workers"] = ",".join(each.address for each in (*mesh.workers, *made.workers))
    made.start()
    made.workers += mesh.workers  # they are running already
    made.wait_ready(READY_TIMEOUT_S)
    yield made
    made.stop()


@dataclass(frozen=True)
class Answer:
    """A device's greedy tokens, with the log probabilities of the two best candidates at each step."""

    tokens: list[int]
    logprobs: list[tuple[float, float]]


Comparison = tuple[str, Answer, Answer]
"""A prompt with the answers of worker-cpu and worker-xpu."""


def generate(address: str, device: str, prompt: str, generated: list[int] | None = None) -> Answer:
    request = pb.GenerateRequest(
        text=prompt,
        device=device,
        sampling=pb.SamplingParams(temperature=0.0),
        stop=pb.StopConditions(max_tokens=TOKENS, ignore_eos=True),
        logprobs=pb.LogprobsOptions(top=2),
        generated=[pb.Continuation(choice=0, token_ids=generated)] if generated else [],
    )
    with grpc.insecure_channel(address) as channel:
        deltas = [event.delta for event in InferenceServiceStub(channel).Generate(request, timeout=120)]
    steps = [step for delta in deltas for step in delta.logprobs]
    tops = [(step.top[0].logprob, step.top[1].logprob) for step in steps]
    return Answer([step.token_id for step in steps], tops)


def chat(mesh: Mesh, **fields: object) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 4} | fields
    with mesh.http() as http:
        return http.post("/v1/chat/completions", json=body)


def serving(mesh: Mesh, **fields: object) -> tuple[str, str]:
    """The kind and address of the device that answered over REST."""
    response = chat(mesh, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["completion_tokens"] > 0
    return response.headers["x-infermesh-device"], response.headers["x-infermesh-endpoint"]


def test_the_router_reports_runtime_and_device_of_both(mesh: Mesh) -> None:
    with grpc.insecure_channel(mesh.admin) as channel:
        listed = admin_pb2_grpc.AdminServiceStub(channel).ListEndpoints(admin_pb2.ListEndpointsRequest(), timeout=10)
    reports = {endpoint.address: endpoint.report for endpoint in listed.endpoints}
    cpu, xpu = (reports[worker.address] for worker in mesh.workers)
    assert cpu.runtime.startswith("openvino ")
    assert xpu.runtime.startswith("torch ")
    assert {cpu.device.kind, xpu.device.kind} == {pb.DEVICE_KIND_CPU}


@pytest.mark.parametrize("device", ["gpu", "xpu", "cuda"])
def test_a_missing_accelerator_is_an_error_that_names_the_devices_there_are(mesh: Mesh, device: str) -> None:
    response = chat(mesh, device=device)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "device_not_available", "device")
    assert f"'{device}'" in error["message"]
    assert "available: cpu" in error["message"]
    for worker in mesh.workers:
        assert worker.address in error["message"]
    with pytest.raises(grpc.RpcError) as caught:
        generate(mesh.envoy.grpc, device, "Hello")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "available: cpu" in caught.value.details()


def test_each_worker_answers_by_name(mesh: Mesh) -> None:
    for worker in mesh.workers:
        assert serving(mesh, device=worker.address) == ("cpu", worker.address)


@pytest.mark.parametrize("device", ["cpu", "auto", None])
def test_a_mesh_without_gpus_answers_requests_that_need_none(mesh: Mesh, device: str | None) -> None:
    kind, address = serving(mesh, **({"device": device} if device else {}))
    assert kind == "cpu"
    assert address in {worker.address for worker in mesh.workers}


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_requested_gpu_answers(accelerated: Mesh, device: str) -> None:
    assert serving(accelerated, device=device) == ("cuda", accelerated.workers[0].address)


def test_no_gpu_answers_a_request_for_a_cpu(accelerated: Mesh) -> None:
    assert {serving(accelerated, device="cpu")[0] for _ in range(4)} == {"cpu"}


def test_another_kind_of_gpu_is_an_error_that_names_all_devices(accelerated: Mesh) -> None:
    response = chat(accelerated, device="xpu")
    assert response.status_code == 400
    assert "available: cpu, cuda" in response.json()["error"]["message"]


def test_auto_takes_the_fastest_once_all_are_measured(accelerated: Mesh) -> None:
    for worker in accelerated.workers:
        generate(accelerated.envoy.grpc, worker.address, PROMPTS[0])
    assert {serving(accelerated)[0] for _ in range(4)} == {"cuda"}


@pytest.fixture(scope="module")
def answers(mesh: Mesh) -> list[Comparison]:
    cpu, xpu = (worker.address for worker in mesh.workers)
    with ThreadPoolExecutor(len(PROMPTS)) as clients:  # with exact numerics, what runs beside a stream changes nothing
        by_device = [clients.map(partial(generate, mesh.envoy.grpc, device), PROMPTS) for device in (cpu, xpu)]
        return list(zip(PROMPTS, *by_device, strict=True))


def test_both_devices_choose_the_same_tokens(answers: list[Comparison]) -> None:
    """They agree up to the first near tie, after which each continues with its own token. Few prompts have one."""
    whole = 0
    for prompt, cpu, xpu in answers:
        assert len(cpu.tokens) == len(xpu.tokens) == TOKENS
        same = next((i for i in range(TOKENS) if cpu.tokens[i] != xpu.tokens[i]), TOKENS)
        np.testing.assert_allclose(cpu.logprobs[:same], xpu.logprobs[:same], atol=LOGPROB_TOLERANCE, err_msg=prompt)
        if same < TOKENS:
            best, second = cpu.logprobs[same]
            assert best - second < 2 * LOGPROB_TOLERANCE, f"{prompt!r} differs at token {same}"
        whole += same == TOKENS
    assert whole >= len(PROMPTS) - 1


def test_one_device_continues_what_the_other_began(mesh: Mesh, answers: list[Comparison]) -> None:
    """As after a failover between devices, the tokens are those of an undisturbed stream."""
    prompt, cpu, xpu = next((p, c, x) for p, c, x in answers if c.tokens == x.tokens)
    begun = TOKENS // 2
    for worker in mesh.workers:
        rest = generate(mesh.envoy.grpc, worker.address, prompt, cpu.tokens[:begun])
        assert rest.tokens == xpu.tokens[begun:]
