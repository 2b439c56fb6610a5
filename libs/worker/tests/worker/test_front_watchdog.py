"""A front whose event loop stands still ends itself; one whose loop runs does not."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, sys, time
from infermesh_worker.front_watchdog import FrontWatchdog

async def main(stands_still):
    watchdog = FrontWatchdog(0.5)
    await watchdog.start()
    if stands_still:
        time.sleep(60)
    await asyncio.sleep(1.5)
    await watchdog.stop()
    time.sleep(1)

asyncio.run(main(sys.argv[1] == "still"))
"""


@pytest.mark.parametrize(("loop", "status"), [("still", 1), ("runs", 0)])
def test_only_a_loop_that_stands_still_ends_the_process(loop: str, status: int) -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT, loop], capture_output=True, timeout=40, check=False)
    assert ended.returncode == status
    assert (b"time.sleep" in ended.stderr or b"main" in ended.stderr) == (loop == "still")
