"""A fixture that starts a router with API keys."""

from pathlib import Path
from typing import Any

import pytest

from infermesh_router.testing.keyed import StartKeyed
from infermesh_router.testing.keys import write_keys_of
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker


@pytest.fixture
def keyed(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> StartKeyed:
    async def start(worker: dict[str, Any] | None = None, **keys: dict[str, object]) -> RunningRouter:
        path = write_keys_of(tmp_path / "keys.json", **keys)
        return await start_router(await start_worker(**(worker or {})), keys_file=path)

    return start
