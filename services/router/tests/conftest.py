"""Scripted workers and a router in front of them, as fixtures."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from infermesh_router.testing.router import RunningRouter, ScriptedWorker, running_router


@pytest.fixture
async def start_worker() -> AsyncIterator[Callable[..., Awaitable[ScriptedWorker]]]:
    async with AsyncExitStack() as stack:

        async def start(**fields: object) -> ScriptedWorker:
            worker = ScriptedWorker(**fields)
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start


@pytest.fixture
async def start_router() -> AsyncIterator[Callable[..., Awaitable[RunningRouter]]]:
    async with AsyncExitStack() as stack:

        async def start(*workers: ScriptedWorker | str, **options: object) -> RunningRouter:
            addresses = [worker if isinstance(worker, str) else worker.address for worker in workers]
            return await stack.enter_async_context(running_router(*addresses, **options))

        yield start
