"""Tensors through a router: imported ONNX models on a real worker-cpu, and workers that die under load."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_client import AsyncClient
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array, from_numpy, to_numpy
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker_process
from tests.tensor_models.onnx_models import WEIGHTS, import_tensors, linear, two_by_two

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@dataclass
class Mesh:
    """A router and its worker-cpu."""

    router: RunningRouter
    root: Path

    @property
    def stub(self) -> pb_grpc.InferenceServiceStub:
        return pb_grpc.InferenceServiceStub(self.router.channel)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    home = tmp_path_factory.mktemp("home")
    root, files = home / "models", home / "files"
    files.mkdir()
    import_tensors(linear(files / "linear.onnx"), root, "linear")
    import_tensors(two_by_two(files / "two.onnx"), root, "two")
    worker = await WorkerProcess.start(
        "infermesh_worker_cpu", home=home, models=root, model="linear", listen="127.0.0.1:0", numerics="exact"
    )
    try:
        async with running_router(await worker.ready()) as router:
            yield Mesh(router, root)
    finally:
        await worker.stop()


def ask(model: str, **arrays: Array) -> pb.InferRequest:
    return pb.InferRequest(model=model, inputs=[from_numpy(array, name=name) for name, array in arrays.items()])


def answers(response: pb.InferResponse) -> dict[str, Array]:
    return {tensor.name: to_numpy(tensor, field="outputs") for tensor in response.outputs}


async def test_a_router_runs_tensors_of_any_size(mesh: Mesh) -> None:
    for rows in (1, 300_000):
        x = np.random.default_rng(rows).random((rows, 4), np.float32)
        got = answers(await mesh.stub.Infer(ask("linear", x=x), timeout=30))
        assert np.allclose(got["y"], x @ WEIGHTS, rtol=1e-5, atol=1e-6)


async def test_requests_at_once_get_their_own_answers(mesh: Mesh) -> None:
    xs = [np.full((1 + number % 3, 4), number, np.float32) for number in range(40)]
    responses = await asyncio.gather(*(mesh.stub.Infer(ask("linear", x=x), timeout=30) for x in xs))
    for x, response in zip(xs, responses, strict=True):
        assert np.allclose(answers(response)["y"], x @ WEIGHTS, rtol=1e-5, atol=1e-5)


async def test_a_model_is_loaded_for_the_request_that_names_it(mesh: Mesh) -> None:
    a, b = np.arange(6).reshape(2, 3), np.full((2, 3), 5)
    got = answers(await mesh.stub.Infer(ask("two", a=a, b=b), timeout=30))
    assert np.array_equal(got["sum"], a + b)
    assert np.array_equal(got["product"], a * b)


async def test_bad_tensors_are_refused_by_name(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.stub.Infer(ask("linear", x=np.zeros((2, 5), np.float32)), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "tensor 'x' has shape [2, 5], but the model takes 'x' FP32 [?, 4]" in caught.value.details()


async def test_the_command_reads_and_writes_files(mesh: Mesh, tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.json").write_text(json.dumps(x.tolist()))
    saved = await infermesh(
        mesh, "infer", "linear", "--input", f"x={tmp_path}/x.npy", "--output", f"y={tmp_path}/y.npy"
    )
    assert saved == (0, "")
    assert np.allclose(np.load(tmp_path / "y.npy"), x @ WEIGHTS, rtol=1e-5)
    status, printed = await infermesh(mesh, "infer", "linear", "--input", f"x={tmp_path}/x.json")
    assert status == 0
    (y,) = json.loads(printed).values()
    assert (y["dtype"], y["shape"]) == ("float32", [2, 3])
    assert np.allclose(y["data"], x @ WEIGHTS, rtol=1e-5)
    status, _ = await infermesh(mesh, "infer", "linear", "--input", "x")
    assert status != 0


async def infermesh(mesh: Mesh, *arguments: str) -> tuple[int, str]:
    """Runs the command; returns its exit status and what it printed on stdout."""
    command = [sys.executable, "-m", "infermesh_client.cli.app", *arguments, "--endpoint", mesh.router.address]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_the_sdk_takes_and_gives_arrays(mesh: Mesh) -> None:
    x = np.ones((1, 4), np.float32)
    async with AsyncClient(mesh.router.address) as client:
        got = await client.infer("linear", {"x": x}, outputs=["y"])
        assert np.allclose(got["y"], x @ WEIGHTS, rtol=1e-5)
        with pytest.raises(InvalidArgument, match="'x' has dtype FP64"):
            await client.infer("linear", {"x": x.astype(np.float64)})


async def test_health_lists_what_the_models_take(mesh: Mesh) -> None:
    report = (await mesh.stub.Health(pb.HealthRequest())).report
    kinds = {model.name: model.kind for model in report.available}
    assert kinds == {"linear": pb.MODEL_KIND_INFER, "two": pb.MODEL_KIND_INFER}
    (two,) = (model for model in report.available if model.name == "two")
    assert [given.name for given in two.inputs] == ["a", "b"]


async def test_nothing_is_lost_when_workers_die_under_load() -> None:
    settings = {"model": "tensors", "sim_tensor_models": "tensors", "sim_batch_s": 0.01, "listen": "127.0.0.1:0"}
    x = np.ones((1, 4), np.float32)
    request = ask("tensors", x=x)
    request.inputs.append(from_numpy(np.array([b"a"], object), name="s"))
    async with simulated_worker_process(**settings) as doomed, simulated_worker_process(**settings) as other:
        addresses = await asyncio.gather(doomed.ready(), other.ready())
        async with running_router(*addresses) as router:
            stub = pb_grpc.InferenceServiceStub(router.channel)
            calls = [asyncio.ensure_future(stub.Infer(request, timeout=60)) for _ in range(60)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            doomed.process.kill()
            responses = await asyncio.gather(*calls)
    assert all(np.array_equal(answers(response)["y"], 2 * x) for response in responses)


async def test_an_import_refuses_options_that_are_not_for_tensors(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="--eos: only for models that generate text"):
        import_tensors(linear(tmp_path / "m.onnx"), tmp_path / "models", "m", eos=("</s>",))
    assert not (tmp_path / "models" / "m").exists()
