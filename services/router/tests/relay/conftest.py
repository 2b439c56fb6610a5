"""Every test of the relay runs twice: with workers that offer frames, and with workers that do not."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infermesh_router.testing.router import ScriptedWorker, StartWorker


@pytest.fixture(params=[True, False], ids=["frames", "calls"])
def start_worker(request: pytest.FixtureRequest, start_worker: StartWorker) -> StartWorker:
    """As everywhere, and the worker offers frames or does not."""
    start: Callable[..., Awaitable[ScriptedWorker]] = start_worker

    async def start_this_way(**fields: Any) -> ScriptedWorker:
        return await start(frames=request.param, **fields)

    return start_this_way
