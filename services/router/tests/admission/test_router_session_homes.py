"""Sessions of several routers: each sends one that it does not know to the near-equal endpoint on which all agree."""

from collections.abc import AsyncIterator, Sequence

import pytest

from infermesh_router.policy.choice import choose
from infermesh_router.policy.prefix.session_hash import hash_session
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.policy.table import Table
from infermesh_router.testing.admission import Mesh, ask
from infermesh_router.testing.snapshots import measured

ADDRESSES = ("a:1", "b:1", "c:1")


@pytest.fixture
async def routers() -> AsyncIterator[Sequence[Mesh]]:
    """Two routers before the same endpoints, of which each learned in another order."""
    meshes = [Mesh(routers=lambda: 2), Mesh(routers=lambda: 2)]
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


def test_a_session_that_no_router_knows_goes_to_no_slower_endpoint() -> None:
    table = Table([measured("a:1"), measured("b:1"), measured("slow:1", prefill_tokens_per_s=500.0)])
    picked = set()
    for number in range(64):
        wanted = Wanted(model="m", prompt_tokens=500, session_key=hash_session(str(number)))
        choice = choose(table, wanted, turn=number)
        assert choice.reason == "session_hash"
        picked.add(choice.address)
    assert picked == {"a:1", "b:1"}
    assert hash_session("") == ()
