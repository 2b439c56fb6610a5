"""The names of endpoints by their devices, and what else a request may name as its device."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.device_names import KnownDevices, address_of, name_devices
from infermesh_router.testing.admission import CPU, XPU, Mesh


async def test_a_name_is_that_of_the_endpoint_with_that_number() -> None:
    mesh = Mesh()
    for address, device in (("a:1", CPU), ("b:1", XPU), ("c:1", CPU)):
        mesh.add(address, device=device)
    assert name_devices(["cpu", "xpu", "cpu"]) == ["cpu:0", "xpu", "cpu:1"]
    known = KnownDevices()
    assert [address_of(name, mesh.fleet, known) for name in ("cpu:0", "cpu:1", "xpu:0")] == ["a:1", "c:1", "b:1"]
    await mesh.fleet.close()


async def test_a_name_means_the_same_while_another_endpoint_starts_again() -> None:
    mesh, known = Mesh(), KnownDevices()
    for address in ("a:1", "b:1", "c:1"):
        mesh.add(address, device=CPU)
    assert address_of("cpu:1", mesh.fleet, known) == "b:1"
    mesh.report("a:1", device=pb.DEVICE_KIND_UNSPECIFIED)  # as a worker that loads does
    assert address_of("cpu:1", mesh.fleet, known) == "b:1"
    await mesh.fleet.close()


@pytest.mark.parametrize("device", ["cpu:1", "cpu:" + "9" * 5000, "cpu:-1", "cpu:", "tpu:0", "a:1", ""])
async def test_what_names_no_device_stays_as_it_is(device: str) -> None:
    mesh = Mesh()
    mesh.add("a:1", device=CPU)
    assert address_of(device, mesh.fleet, KnownDevices()) == device
    await mesh.fleet.close()
