"""Runs a mesh whose model m takes SECONDS to load, for clients in other venvs: prints its URL, and ends with its stdin.

`python -m tests.conformance.slow_mesh SECONDS`
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from infermesh_router.placement import placer
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from tests.conformance.scripted import behind_envoy

COMMENT_S = 0.1


async def main(load_s: float) -> None:
    """Loads the model once somebody asks for it; a comment comes every 0.1 s."""
    placer.TELL_S = COMMENT_S
    worker = LoadingWorker(fraction=0.62)
    worker.may_load.clear()
    with tempfile.TemporaryDirectory() as folder:
        async with behind_envoy(worker, Path(folder), wait_comment_s=COMMENT_S) as url:
            print(url, flush=True)
            ends = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
            asked = asyncio.create_task(worker.asked.wait())
            await asyncio.wait((ends, asked), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(load_s)
            worker.may_load.set()
            await ends


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
