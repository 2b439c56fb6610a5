"""Fixtures of tests of MeshService."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from infermesh_router.testing.loading.models_folder import FolderWorker
from services.router.tests.mesh.importing import SECRET, StartFolderWorker


@pytest.fixture
async def start_folder() -> AsyncIterator[StartFolderWorker]:
    """Starts workers with models folders, and stops them at the end."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> FolderWorker:
            worker = FolderWorker(models=fields.pop("loaded", ()), **fields)
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "manage.key"
    path.write_text(SECRET)
    path.chmod(0o600)
    return str(path)
