"""The gate counts requests, and refuses new ones while the router drains."""

import asyncio

import pytest

from infermesh_router.admission.gate import Gate
from infermesh_router.fleet.changes import Changes
from infermesh_runtime.errors import FailedPrecondition, Unavailable


async def test_a_gate_that_drains_refuses_newcomers_and_waits_for_those_inside() -> None:
    gate = Gate(Changes())
    inside = gate.entered()
    inside.__enter__()
    draining = asyncio.create_task(gate.drain())
    await asyncio.sleep(0)
    assert gate.draining
    with pytest.raises(Unavailable) as caught, gate.entered():
        pass
    assert caught.value.reason == "ROUTER_DRAINING"
    inside.__exit__(None, None, None)
    await draining
    gate.resume()
    with gate.entered():
        assert gate.running == 1


async def test_a_drain_that_is_called_off_says_so() -> None:
    gate = Gate(Changes())
    with gate.entered():
        draining = asyncio.create_task(gate.drain())
        await asyncio.sleep(0)
        gate.resume()
        with pytest.raises(FailedPrecondition):
            await draining
    assert not gate.draining
