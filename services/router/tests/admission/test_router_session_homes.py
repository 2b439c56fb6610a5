"""Sessions of several routers: each gives one that it does not know to the endpoint on which all of them agree."""

from collections.abc import AsyncIterator, Sequence

import pytest

from infermesh_router.policy.prefix.session_home import session_home
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.policy.table import Table
from infermesh_router.testing.admission import Mesh, ask
from infermesh_router.testing.snapshots import cpu, disk, gpu

ADDRESSES = ("a:1", "b:1", "c:1")


@pytest.fixture
async def routers() -> AsyncIterator[Sequence[Mesh]]:
    """Two routers before the same endpoints, of which each learned in another order."""
    meshes = [Mesh(routers=2), Mesh(routers=2)]
    for mesh, addresses in zip(meshes, (ADDRESSES, ADDRESSES[::-1]), strict=True):
        for address in addresses:
            mesh.add(address, room=64)
    yield meshes
    for mesh in meshes:
        await mesh.fleet.close()


async def test_routers_agree_on_the_endpoint_of_a_session_that_neither_knows(routers: Sequence[Mesh]) -> None:
    homes = set()
    for session in map(str, range(24)):
        grants = [await mesh.admit(ask(session_id=session)) for mesh in routers]
        first, second = (grant.endpoint.address for grant in grants)
        assert first == second
        homes.add(first)
        for grant in grants:
            grant.release()
    assert len(homes) > 1


def test_a_home_is_an_endpoint_that_can_answer() -> None:
    table = Table([cpu("a:1"), cpu("b:1"), gpu("c:1"), gpu("d:1"), disk("e:1"), cpu("f:1", connected=False)])
    sessions = [str(number) for number in range(64)]
    assert {session_home(table, Wanted(model="m"), each) for each in sessions} == {"a:1", "b:1", "c:1", "d:1"}
    assert {session_home(table, Wanted(model="m", device="cpu"), each) for each in sessions} == {"a:1", "b:1"}
    assert {session_home(Table([cpu("a:1")]), Wanted(model="m"), each) for each in sessions} == {""}
