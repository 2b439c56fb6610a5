"""The synchronous half of the SDK is what the asynchronous one makes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.sync_client import PAIRS, synchronous

TOOL = Path(__file__).resolve().parents[3] / "tools" / "sync_client.py"


def test_the_synchronous_modules_are_up_to_date() -> None:
    subprocess.run([sys.executable, str(TOOL), "--check"], check=True)


@pytest.mark.parametrize("source", PAIRS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_asynchronous_is_left(source: Path) -> None:
    text = synchronous(source.read_text(encoding="utf-8"))
    for word in ("async ", "await", "aclose", "aio", "Async", "asynchronous", "event loop"):
        assert word not in text
