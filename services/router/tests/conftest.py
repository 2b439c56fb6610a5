"""Fixtures that start scripted workers, and a router in front of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from infermesh_router.testing.router import RunningRouter, ScriptedWorker, StartRouter, StartWorker, running_router
from infermesh_router.testing.speech import SpeechWorker, StartSpeech


@pytest.fixture
async def start_worker() -> AsyncIterator[StartWorker]:
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> ScriptedWorker:
            worker = ScriptedWorker(**fields)
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start


@pytest.fixture
async def start_speech() -> AsyncIterator[StartSpeech]:
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> SpeechWorker:
            worker = SpeechWorker(**fields)
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start


@pytest.fixture
async def start_router() -> AsyncIterator[StartRouter]:
    async with AsyncExitStack() as stack:

        async def start(*workers: ScriptedWorker | str, **options: Any) -> RunningRouter:
            addresses = [worker if isinstance(worker, str) else worker.address for worker in workers]
            return await stack.enter_async_context(running_router(*addresses, **options))

        yield start
