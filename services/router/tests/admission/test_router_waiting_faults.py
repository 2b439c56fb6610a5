"""A call that cannot be placed because of a bug is refused, and holds up no other."""

import asyncio
from collections.abc import Sequence

import pytest

from infermesh_router.policy.choice import Choice
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.testing.admission import Mesh, ask, until
from infermesh_runtime.errors import Internal


class FaultyMesh(Mesh):
    """Its policy fails for the client "poison" once `faulty` is set."""

    faulty = False

    def _choose(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice:
        if self.faulty and wanted.client == "poison":
            raise ZeroDivisionError
        return super()._choose(endpoints, wanted, turn=turn)


async def test_a_call_that_breaks_the_policy_is_refused_and_the_others_are_placed() -> None:
    mesh = FaultyMesh()
    mesh.add("a:1", room=1)
    first = await mesh.admit()
    poison = asyncio.create_task(mesh.admit(ask("poison", priority=9)))
    other = asyncio.create_task(mesh.admit(ask("other")))
    await until(lambda: mesh.admission.waiting == 2)
    mesh.faulty = True
    first.release()
    with pytest.raises(Internal):
        await asyncio.wait_for(poison, 5)
    (await asyncio.wait_for(other, 5)).release()
    await until(mesh.is_idle)
    await mesh.fleet.close()
