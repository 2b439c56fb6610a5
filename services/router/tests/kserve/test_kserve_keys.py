"""API keys and the Open Inference Protocol: who may ask what, and whose shared memory it is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_router.testing.tensors import TensorWorker, raw_request, stub
from infermesh_runtime.errors import InfermeshError, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from infermesh_runtime.rpc.status import from_rpc_error

X = np.arange(4, dtype=np.float32).reshape(2, 2)


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[tuple[RunningRouter, dict[str, Any]]]:
    """A router with the keys "all", "echo" and "once", and their metadata."""
    keys_file = write_keys_of(
        tmp_path / "keys.json", all={}, echo={"models": ("echo",)}, once={"requests_per_minute": 1}
    )
    worker = TensorWorker()
    await worker.start()
    try:
        async with running_router(worker.address, keys_file=keys_file, shared_memory=True) as router:
            yield router, {name: bearer(name) for name in ("all", "echo", "once")}
    finally:
        await worker.stop()


async def ask(router: RunningRouter, method: str, request: Any, metadata: Any = ()) -> Any:
    """Calls a method. Raises the status's InfermeshError."""
    try:
        return await getattr(stub(router), method)(request, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


CALLS: list[tuple[str, Any]] = [
    ("ModelInfer", raw_request(x=X)),
    ("ModelReady", oip.ModelReadyRequest(name="echo")),
    ("ModelMetadata", oip.ModelMetadataRequest(name="echo")),
    ("ModelConfig", oip.ModelConfigRequest(name="echo")),
    ("ModelStatistics", oip.ModelStatisticsRequest()),
    ("RepositoryIndex", oip.RepositoryIndexRequest()),
    ("RepositoryModelLoad", oip.RepositoryModelLoadRequest(model_name="echo")),
    ("SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest()),
]


async def test_calls_need_a_key_where_there_are_keys(keyed: tuple[RunningRouter, dict[str, Any]]) -> None:
    router, _ = keyed
    for method, request in CALLS:
        with pytest.raises(Unauthenticated):
            await ask(router, method, request)
    assert (await ask(router, "ServerLive", oip.ServerLiveRequest())).live


async def test_a_key_sees_and_uses_its_models_alone(keyed: tuple[RunningRouter, dict[str, Any]]) -> None:
    router, keys = keyed
    await ask(router, "ModelInfer", raw_request(x=X), keys["echo"])
    with pytest.raises(PermissionDenied, match="team/echo"):
        await ask(router, "ModelInfer", raw_request("team/echo", x=X), keys["echo"])
    with pytest.raises(NotFound):
        await ask(router, "ModelMetadata", oip.ModelMetadataRequest(name="m"), keys["echo"])
    index = await ask(router, "RepositoryIndex", oip.RepositoryIndexRequest(), keys["echo"])
    assert [each.name for each in index.models] == ["echo"]


async def test_requests_count_for_a_keys_limit(keyed: tuple[RunningRouter, dict[str, Any]]) -> None:
    router, keys = keyed
    call = stub(router).ModelInfer(raw_request(x=X), metadata=keys["once"])
    await call
    assert "x-ratelimit-limit-requests" in dict(await call.initial_metadata())
    with pytest.raises(ResourceExhausted):
        await ask(router, "ModelInfer", raw_request(x=X), keys["once"])
    answers = [
        answer async for answer in stub(router).ModelStreamInfer(iter([raw_request(x=X)]), metadata=keys["once"])
    ]
    assert "once" in answers[0].error_message


async def test_requests_of_streams_are_read_once_the_caller_is_let_in(
    keyed: tuple[RunningRouter, dict[str, Any]],
) -> None:
    """Reading may be much work, which strangers must not cause."""
    router, _ = keyed
    stream = router.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
    await stream.write(b"\xff")
    answer = oip.ModelStreamInferResponse.FromString(await stream.read())
    await stream.done_writing()
    assert "API key" in answer.error_message


async def test_a_keys_shared_memory_is_its_own(keyed: tuple[RunningRouter, dict[str, Any]]) -> None:
    router, keys = keyed
    path = Path("/dev/shm") / f"infermesh-keys-{id(keyed)}"
    path.write_bytes(bytes(64))
    try:
        region = oip.SystemSharedMemoryRegisterRequest(name="r", key=path.name, byte_size=64)
        await ask(router, "SystemSharedMemoryRegister", region, keys["all"])
        request = oip.ModelInferRequest(model_name="echo")
        tensor = request.inputs.add(name="x", datatype="FP32", shape=[4])
        tensor.parameters["shared_memory_region"].string_param = "r"
        tensor.parameters["shared_memory_byte_size"].int64_param = 16
        await ask(router, "ModelInfer", request, keys["all"])
        with pytest.raises(InfermeshError, match="no shared memory region"):
            await ask(router, "ModelInfer", request, keys["echo"])
        status = await ask(router, "SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest(), keys["echo"])
        assert not status.regions
    finally:
        path.unlink()
