"""A fixture that starts scripted workers and a placer in front of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.loading.placing import Mesh, StartMesh, running_mesh


@pytest.fixture
async def start() -> AsyncIterator[StartMesh]:
    async with AsyncExitStack() as stack:

        async def begin(*workers: LoadingWorker, **options: Any) -> Mesh:
            return await stack.enter_async_context(running_mesh(*workers, **options))

        yield begin
