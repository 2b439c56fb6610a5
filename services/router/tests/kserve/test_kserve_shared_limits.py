"""How much a request may read from shared memory, that it counts, and what the system's refusals become."""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.shared_memory.shm_file import ShmFile
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_router.testing.tensors import HoldingWorker, TensorWorker, call, raw_request, stub
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted

pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1 << 20
X = np.arange(4, dtype=np.float32).reshape(2, 2)


@pytest.fixture
def shm() -> Iterator[Path]:
    """A shared memory object of 100 MiB, none of which is used."""
    path = Path(f"/dev/shm/infermesh-limits-{os.getpid()}")
    path.touch()
    os.truncate(path, 100 * MIB)
    yield path
    path.unlink()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router() -> AsyncIterator[RunningRouter]:
    worker = TensorWorker()
    await worker.start()
    try:
        async with running_router(worker.address, shared_memory=True) as router:
            yield router
    finally:
        await worker.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def region(router: RunningRouter, shm: Path) -> AsyncIterator[str]:
    await register(router, shm)
    yield "r"
    await call(router, "SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest())


async def register(router: RunningRouter, shm: Path) -> None:
    request = oip.SystemSharedMemoryRegisterRequest(name="r", key=shm.name, byte_size=100 * MIB)
    await call(router, "SystemSharedMemoryRegister", request)


def place(tensor: Any, size: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = "r"
    tensor.parameters["shared_memory_byte_size"].int64_param = size


def windowed(*sizes: int) -> oip.ModelInferRequest:
    """A request whose inputs have these sizes and are in shared memory."""
    request = oip.ModelInferRequest(model_name="echo")
    for index, size in enumerate(sizes):
        place(request.inputs.add(name=f"x{index}", datatype="UINT8", shape=[size]), size)
    return request


def refuse_to_read(*_arguments: object) -> bytes:
    raise AssertionError("shared memory was read")


@pytest.mark.parametrize("sizes", [(65 * MIB,), (40 * MIB, 40 * MIB), (1, 64 * MIB, 64 * 1024)])
async def test_windows_beyond_the_size_of_a_message_are_not_read(
    router: RunningRouter, region: str, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    monkeypatch.setattr(ShmFile, "read", refuse_to_read)
    with pytest.raises(InvalidArgument, match=f"have {sum(sizes)} bytes") as refused:
        await call(router, "ModelInfer", windowed(*sizes))
    assert refused.value.reason == "REQUEST_TOO_LARGE"


async def test_raw_contents_beside_windows_count_too(
    router: RunningRouter, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShmFile, "read", refuse_to_read)
    request = windowed(63 * MIB)
    request.inputs.add(name="raw", datatype="UINT8", shape=[2 * MIB])
    request.raw_input_contents.append(bytes(2 * MIB))
    with pytest.raises(InvalidArgument, match=f"have {65 * MIB} bytes"):
        await call(router, "ModelInfer", request)


async def test_a_window_of_another_size_than_its_tensor_is_not_read(
    router: RunningRouter, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShmFile, "read", refuse_to_read)
    request = windowed(4)
    request.inputs[0].shape[:] = [5]
    with pytest.raises(InvalidArgument, match="needs 5 bytes; it has 4"):
        await call(router, "ModelInfer", request)


async def test_windows_count_for_the_memory_of_requests(shm: Path) -> None:
    worker = HoldingWorker()
    await worker.start()
    options: Any = {"shared_memory": True, "body_memory_bytes": 4 * MIB, "client_body_memory_share": 1.0}
    try:
        async with running_router(worker.address, **options) as router:
            await register(router, shm)
            held = stub(router).ModelInfer(windowed(MIB))
            await worker.arrived.wait()
            answers = [answer async for answer in stub(router).ModelStreamInfer(iter([windowed(MIB)]), timeout=20)]
            assert "already take" in answers[0].error_message
            worker.may.set()
            assert len((await held).raw_output_contents[0]) == MIB
    finally:
        await worker.stop()


async def test_typed_inputs_may_have_outputs_in_shared_memory(router: RunningRouter, region: str, shm: Path) -> None:
    request = oip.ModelInferRequest(model_name="echo")
    for name in ("x", "y"):
        contents = oip.InferTensorContents(fp32_contents=X.ravel().tolist())
        request.inputs.add(name=name, datatype="FP32", shape=[2, 2], contents=contents)
        request.outputs.add(name=name)
    place(request.outputs[0], X.nbytes)
    answer = await call(router, "ModelInfer", request)
    assert list(answer.raw_output_contents) == [b"", X.tobytes()]
    with shm.open("rb") as file:
        assert file.read(X.nbytes) == X.tobytes()


@pytest.mark.parametrize("name", ["pread", "pwrite"])
async def test_what_the_system_refuses_is_told_in_words(
    router: RunningRouter, region: str, shm: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, refuse)
    request = raw_request(x=X) if name == "pwrite" else windowed(4)
    if name == "pwrite":
        place(request.outputs.add(name="x"), X.nbytes)
    with pytest.raises(ResourceExhausted, match=f"object '{shm.name}' cannot be .*: No space left on device"):
        await call(router, "ModelInfer", request)
