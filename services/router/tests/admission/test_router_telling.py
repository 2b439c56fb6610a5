"""Clients that wait in a queue are told so, but not those that soon get their turn."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission import waiting_room
from infermesh_router.requests.telling import Telling
from infermesh_router.testing.admission import Mesh, ask, settle


class Told:
    """A client that takes what it is told when it may."""

    def __init__(self) -> None:
        self.texts: asyncio.Queue[str] = asyncio.Queue()
        self.may_take = asyncio.Event()
        self.may_take.set()

    async def tell(self, text: str) -> None:
        self.texts.put_nowait(text)
        await self.may_take.wait()


@pytest.fixture
async def mesh(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    monkeypatch.setattr(waiting_room, "_TELL_S", 0.02)
    mesh = Mesh()
    yield mesh
    await mesh.fleet.close()


async def test_a_client_is_told_how_many_wait_until_its_turn_comes(mesh: Mesh) -> None:
    mesh.add("a:1")
    first = await mesh.admit()
    client = Told()
    pending = mesh.admission.arrive(ask(), deadline_s=None, telling=Telling(client.tell, 0.01))
    waiting = asyncio.create_task(mesh.admission.admit(pending))
    assert await asyncio.wait_for(client.texts.get(), 10) == "waiting"
    other = asyncio.create_task(mesh.admit())
    await settle()
    while (text := await asyncio.wait_for(client.texts.get(), 10)) == "waiting":
        pass
    assert text == "waiting, 1 more wait for m"
    first.release()
    (await waiting).release()
    (await other).release()
    assert mesh.is_idle()


async def test_a_client_is_told_of_a_model_that_its_endpoint_loads_by_itself(mesh: Mesh) -> None:
    mesh.add("a:1")
    loading = pb.ModelStatus(name="m", state=pb.ENDPOINT_STATE_LOADING, load_fraction=0.5)
    mesh.fleet.get("a:1").note_report(pb.HealthReport(state=pb.ENDPOINT_STATE_LOADING, models=[loading]))
    client = Told()
    pending = mesh.admission.arrive(ask(), deadline_s=None, telling=Telling(client.tell, 0.01))
    waiting = asyncio.create_task(mesh.admission.admit(pending))
    assert await asyncio.wait_for(client.texts.get(), 10) == "loading m 50 %"
    mesh.report("a:1")
    (await waiting).release()


async def test_a_client_that_gets_its_turn_soon_is_told_nothing(mesh: Mesh) -> None:
    mesh.add("a:1")
    first = await mesh.admit()
    client = Told()
    pending = mesh.admission.arrive(ask(), deadline_s=None, telling=Telling(client.tell, 60.0))
    waiting = asyncio.create_task(mesh.admission.admit(pending))
    await settle()
    first.release()
    (await waiting).release()
    assert client.texts.empty()


async def test_a_turn_that_comes_while_a_client_that_leaves_is_told_goes_to_the_next(mesh: Mesh) -> None:
    mesh.add("a:1")
    first = await mesh.admit()
    client = Told()
    client.may_take.clear()
    pending = mesh.admission.arrive(ask(), deadline_s=None, telling=Telling(client.tell, 0.01))
    leaving = asyncio.create_task(mesh.admission.admit(pending))
    await asyncio.wait_for(client.texts.get(), 10)
    next_one = asyncio.create_task(mesh.admit())
    first.release()
    await settle()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    (await asyncio.wait_for(next_one, 10)).release()
    assert mesh.is_idle()
