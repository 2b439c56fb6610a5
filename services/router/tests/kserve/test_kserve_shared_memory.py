"""Shared memory: what a client may register, read and write, and that nothing outside of it can be reached."""

# ruff: noqa: ASYNC240 - memory, not files on a disk

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from infermesh.kserve.v1 import kserve_pb2 as rest_pb
from infermesh.kserve.v1 import kserve_pb2_grpc as rest_grpc
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.shared_memory.regions import Regions
from infermesh_router.kserve.shared_memory.shm_file import open_shm
from infermesh_router.kserve.tensors.values import Window
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_router.testing.tensors import TensorWorker, call, raw_request, stub
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, NotFound, PermissionDenied
from infermesh_runtime.rpc.status import from_rpc_error

pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")
X = np.arange(4, dtype=np.float32).reshape(2, 2)
PAGE = 4096


@pytest.fixture
def shm() -> Iterator[Path]:
    """A shared memory object of a page."""
    path = Path(f"/dev/shm/infermesh-test-{os.getpid()}")
    path.write_bytes(bytes(PAGE))
    yield path
    path.unlink(missing_ok=True)


@module_fixture
async def worker() -> AsyncIterator[TensorWorker]:
    worker = TensorWorker()
    await worker.start()
    yield worker
    await worker.stop()


@module_fixture
async def router(worker: TensorWorker) -> AsyncIterator[RunningRouter]:
    async with running_router(worker.address, shared_memory=True) as router:
        yield router


@pytest_asyncio.fixture(loop_scope="module")
async def region(router: RunningRouter, shm: Path) -> AsyncIterator[Path]:
    """The object, whose bytes from 64 on are registered as the region "r" of 1024 bytes."""
    await register(router, shm.name, offset=64, size=1024)
    yield shm
    await call(router, "SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest())


async def register(router: RunningRouter, key: str, *, name: str = "r", offset: int = 0, size: int = 1) -> None:
    request = oip.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=size)
    await call(router, "SystemSharedMemoryRegister", request)


def place(tensor: Any, offset: int, size: int, region: str = "r") -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def shared_request(in_offset: int = 0, out_offset: int = 16, out_size: int = 16, in_size: int = 16) -> Any:
    request = oip.ModelInferRequest(model_name="echo")
    place(request.inputs.add(name="x", datatype="FP32", shape=[2, 2]), in_offset, in_size)
    place(request.outputs.add(name="x"), out_offset, out_size)
    return request


async def test_tensors_come_from_and_go_to_shared_memory(router: RunningRouter, region: Path) -> None:
    with region.open("r+b") as file:
        file.seek(64)
        file.write(X.tobytes())
    answer = await call(router, "ModelInfer", shared_request())
    assert region.read_bytes()[80:96] == X.tobytes()
    assert list(answer.raw_output_contents) == [b""]
    told = answer.outputs[0].parameters
    assert told["shared_memory_region"].string_param == "r"
    assert (told["shared_memory_byte_size"].int64_param, told["shared_memory_offset"].int64_param) == (16, 16)


async def test_some_tensors_may_be_raw_beside_it(router: RunningRouter, region: Path) -> None:
    request = raw_request(a=X)
    place(request.inputs.add(name="x", datatype="FP32", shape=[2, 2]), 0, 16)
    request.outputs.add(name="a")
    place(request.outputs.add(name="x"), 512, 16)
    answer = await call(router, "ModelInfer", request)
    assert list(answer.raw_output_contents) == [X.tobytes(), b""]


async def test_large_tensors_go_through_it(router: RunningRouter, shm: Path) -> None:
    data = np.random.default_rng(3).standard_normal((512, 1024), np.float32)
    shm.write_bytes(data.tobytes() + bytes(data.nbytes))
    await register(router, shm.name, size=2 * data.nbytes)
    request = shared_request(0, data.nbytes, data.nbytes, data.nbytes)
    request.inputs[0].shape[:] = data.shape
    await call(router, "ModelInfer", request)
    assert shm.read_bytes()[data.nbytes :] == data.tobytes()
    await call(router, "SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest(name="r"))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (shared_request(in_offset=1009), "'x'.*has 1024 bytes; 16 at 1009 are beyond its end"),
        (shared_request(in_offset=2**62), "beyond its end"),
        (shared_request(in_offset=-1), "'shared_memory_offset' must be a whole number"),
        (shared_request(in_size=2**61), "beyond its end"),
        (shared_request(out_offset=1009), "'x'.*beyond its end"),
        (shared_request(out_size=15), "'x' has 16 bytes, more than the 15"),
        (shared_request(in_size=15), "needs 16 bytes; it has 15"),
        (shared_request(in_size=17), "needs 16 bytes; it has 17"),
    ],
)
async def test_nothing_outside_a_region_is_reached(
    router: RunningRouter, region: Path, worker: TensorWorker, request_: Any, words: str
) -> None:
    before = region.read_bytes()
    with pytest.raises(InvalidArgument, match=words):
        await call(router, "ModelInfer", request_)
    assert region.read_bytes() == before


async def test_an_object_that_became_shorter_is_an_error_and_no_crash(router: RunningRouter, region: Path) -> None:
    os.truncate(region, 70)
    with pytest.raises(InvalidArgument, match=r"'x'.*has 70 bytes"):
        await call(router, "ModelInfer", shared_request())
    request = raw_request(x=X)
    place(request.outputs.add(name="x"), 0, 16)
    with pytest.raises(InvalidArgument, match="has 70 bytes"):
        await call(router, "ModelInfer", request)
    assert region.stat().st_size == 70
    assert (await call(router, "ServerLive", oip.ServerLiveRequest())).live


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 0), (0, PAGE + 1), (1, PAGE), (PAGE, 1), (2**63, 1), (0, 2**64 - 1), (2**64 - 1, 2)]
)
async def test_a_region_must_lie_within_its_object(router: RunningRouter, shm: Path, offset: int, size: int) -> None:
    with pytest.raises(InvalidArgument, match="must lie within"):
        await register(router, shm.name, offset=offset, size=size)


@pytest.mark.parametrize("key", ["", "/", ".", "..", "../shm/x", "/../etc/passwd", "a/b", "/a/b", "a\0b", "x" * 300])
async def test_keys_are_names_and_not_paths(router: RunningRouter, key: str) -> None:
    with pytest.raises(InvalidArgument, match="must be the name"):
        await register(router, key)


async def test_links_pipes_folders_and_missing_objects_are_refused(router: RunningRouter, shm: Path) -> None:
    with pytest.raises(NotFound, match="no shared memory object"):
        await register(router, f"{shm.name}-none")
    odd = shm.with_name(f"{shm.name}-odd")
    makers: list[Callable[[], None]] = [lambda: odd.symlink_to("/etc/passwd"), lambda: os.mkfifo(odd), odd.mkdir]
    for make in makers:
        make()
        try:
            with pytest.raises(InvalidArgument, match="does not name a shared memory object"):
                await register(router, odd.name)
        finally:
            with suppress(OSError):
                odd.rmdir()
            odd.unlink(missing_ok=True)


async def test_objects_of_other_users_are_refused(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: shm.stat().st_uid + 1)
    with pytest.raises(PermissionDenied, match="another user"):
        open_shm(shm.name)


async def test_regions_are_listed_and_end(router: RunningRouter, region: Path) -> None:
    with pytest.raises(FailedPrecondition, match="registered already"):
        await register(router, region.name)
    await register(router, region.name, name="s", size=10)
    listed = (await call(router, "SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest())).regions
    assert sorted(listed) == ["r", "s"]
    assert (listed["r"].key, listed["r"].offset, listed["r"].byte_size) == (region.name, 64, 1024)
    await call(router, "SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest(name="s"))
    with pytest.raises(NotFound, match="'s'"):
        await call(router, "SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest(name="s"))
    await call(router, "SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest())
    with pytest.raises(NotFound, match="'x': There is no shared memory region 'r'"):
        await call(router, "ModelInfer", shared_request())


def open_files(path: Path) -> int:
    """How often this process has a file open."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(each.readlink())
    return links.count(path)


async def test_an_unregistered_object_is_closed(shm: Path) -> None:
    regions = Regions(lease_s=10)
    regions.register("", "r", shm.name, 0, 16)
    assert open_files(shm) == 1
    regions.unregister("", "r")
    assert open_files(shm) == 0


async def test_a_region_that_nobody_uses_ends(shm: Path) -> None:
    now = [0.0]
    regions = Regions(lease_s=10, clock=lambda: now[0])
    regions.register("", "r", shm.name, 0, 16)
    for now[0] in (9.0, 18.0):
        assert await regions.read("", Window("r", 0, 4)) == bytes(4)
    now[0] = 28.1
    regions.sweep()
    assert open_files(shm) == 0
    with pytest.raises(NotFound):
        await regions.read("", Window("r", 0, 4))


async def test_clients_do_not_see_each_others_regions(shm: Path) -> None:
    regions = Regions(lease_s=10)
    regions.register("alice", "r", shm.name, 0, 16)
    assert regions.list_regions("bob") == []
    regions.unregister("bob", "")
    with pytest.raises(NotFound):
        await regions.read("bob", Window("r", 0, 4))
    assert [region.name for region in regions.list_regions("alice")] == ["r"]


async def test_it_is_closed_unless_the_operator_opens_it(worker: TensorWorker, shm: Path) -> None:
    async with running_router(worker.address) as closed:
        for method, request in (
            ("SystemSharedMemoryRegister", oip.SystemSharedMemoryRegisterRequest(name="r", key=shm.name, byte_size=1)),
            ("SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest()),
            ("SystemSharedMemoryUnregister", oip.SystemSharedMemoryUnregisterRequest()),
            ("ModelInfer", shared_request()),
        ):
            with pytest.raises(PermissionDenied, match="INFERMESH_SHARED_MEMORY"):
                await call(closed, method, request)


@pytest.mark.parametrize("origin", ["192.0.2.7", "127.0.0.1, 192.0.2.7", "nonsense", "0.0.0.0", "2001:db8::1"])
async def test_it_is_for_clients_on_this_machine(router: RunningRouter, origin: str) -> None:
    status = oip.SystemSharedMemoryStatusRequest()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub(router).SystemSharedMemoryStatus(status, metadata=(("x-forwarded-for", origin),))
    assert "own machine" in (refused.value.details() or "")
    await stub(router).SystemSharedMemoryStatus(status, metadata=(("x-forwarded-for", "192.0.2.7, ::1"),))


async def test_rest_registers_and_uses_regions(router: RunningRouter, shm: Path) -> None:
    rest = rest_grpc.KServeServiceStub(router.channel)
    shm.write_bytes(X.tobytes() + bytes(PAGE))
    content = HttpBody(data=b'{"key":"/%s","offset":0,"byte_size":32}' % shm.name.encode())
    await rest.RegisterSharedMemory(rest_pb.RegionBody(region="q", content=content))
    body = (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],'
        b'"parameters":{"shared_memory_region":"q","shared_memory_byte_size":16}}],"outputs":[{"name":"x",'
        b'"parameters":{"shared_memory_region":"q","shared_memory_byte_size":16,"shared_memory_offset":16}}]}'
    )
    answer = await rest.Infer(rest_pb.ModelBody(model="echo", content=HttpBody(data=body)))
    assert b'"shared_memory_region":"q"' in answer.data
    assert shm.read_bytes()[16:32] == X.tobytes()
    status = await rest.GetSharedMemory(rest_pb.RegionRequest(region="q"))
    assert status.data == b'[{"name":"q","key":"/%s","offset":0,"byte_size":32}]' % shm.name.encode()
    await rest.UnregisterSharedMemory(rest_pb.RegionBody())
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await rest.RegisterSharedMemory(rest_pb.RegionBody(region="q", content=HttpBody(data=b'{"byte_size":-1}')))
    error: InfermeshError = from_rpc_error(failed.value)
    assert isinstance(error, InvalidArgument)
