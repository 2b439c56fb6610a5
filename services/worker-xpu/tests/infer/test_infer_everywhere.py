"""One folder of models of tensors for both kinds of worker: who lists what, devices, and equal answers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.testing.router import running_router
from infermesh_runtime.manifest.model_manifest import read_manifest
from infermesh_runtime.tensors import Array, from_numpy, to_numpy
from infermesh_worker.testing.processes import WorkerProcess
from tests.tensor_models import torch_programs
from tests.tensor_models.onnx_models import import_tensors, linear

pytest.importorskip("onnxruntime")


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
READY_TIMEOUT_S = 120.0


@dataclass
class Mesh:
    """Both workers, by name, and a router above them."""

    addresses: dict[str, str]
    router: grpc.aio.Channel
    root: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    home = tmp_path_factory.mktemp("home")
    root, files = home / "models", home / "files"
    files.mkdir()
    import_tensors(linear(files / "linear.onnx"), root, "onnx")
    import_tensors(torch_programs.linear(files / "linear.pt2"), root, "program", trust_code=True)
    cpu = await WorkerProcess.start("infermesh_worker_cpu", home=home, models=root, model="onnx", threads=1)
    xpu = await WorkerProcess.start(
        "infermesh_worker_xpu", home=home, models=root, model="onnx", device="cpu", threads=1
    )
    try:
        addresses = {}
        for name, worker in (("cpu", cpu), ("xpu", xpu)):
            addresses[name] = await worker.ready()
            await worker.wait_for("ready", READY_TIMEOUT_S)
        async with running_router(*addresses.values()) as router:
            yield Mesh(addresses, router.channel, root)
    finally:
        await cpu.stop()
        await xpu.stop()


def ask(model: str, x: Array, device: str = "") -> pb.InferRequest:
    return pb.InferRequest(model=model, inputs=[from_numpy(x, name="x")], device=device)


async def infer(channel: grpc.aio.Channel, request: pb.InferRequest) -> Array:
    response = await pb_grpc.InferenceServiceStub(channel).Infer(request, timeout=60)
    return to_numpy(response.outputs[0], field="outputs")


async def test_the_same_file_runs_on_both_workers(mesh: Mesh) -> None:
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    answers = []
    for address in mesh.addresses.values():
        async with grpc.aio.insecure_channel(address) as channel:
            answers.append(await infer(channel, ask("onnx", x)))
    on_cpu, on_xpu = answers
    assert np.allclose(on_cpu, on_xpu, rtol=1e-2, atol=1e-2)


async def test_each_worker_lists_what_it_can_run_and_says_on_what(mesh: Mesh) -> None:
    reports = {}
    for name, address in mesh.addresses.items():
        async with grpc.aio.insecure_channel(address) as channel:
            reports[name] = (await pb_grpc.InferenceServiceStub(channel).Health(pb.HealthRequest())).report
    assert {model.name for model in reports["cpu"].available} == {"onnx"}
    assert {model.name for model in reports["xpu"].available} == {"onnx", "program"}
    assert "on CPU (asked for " in reports["xpu"].runtime
    assert read_manifest(mesh.root / "program").not_for == ()


async def test_a_program_of_torch_runs_wherever_it_can(mesh: Mesh) -> None:
    x = np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)
    expected = np.maximum(x @ torch_programs.WEIGHTS.numpy(), 0)
    for device in ("", "auto", "cpu"):
        got = await infer(mesh.router, ask("program", x, device))
        assert np.allclose(got, expected, rtol=1e-5, atol=1e-6)


async def test_a_device_that_nobody_has_is_refused(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(mesh.router, ask("onnx", np.ones((1, 4), np.float32), "gpu"))
    assert "gpu" in (caught.value.details() or "")
