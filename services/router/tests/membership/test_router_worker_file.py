"""The file of workers: what it may hold, and that its changes are seen however they are made."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infermesh_router.membership import worker_file
from infermesh_router.membership.target import Target
from infermesh_router.membership.worker_file import MAX_BYTES, WorkerFile, parse_worker_file
from infermesh_runtime.errors import FailedPrecondition

Seen = asyncio.Queue[tuple[Target, ...]]


def addresses(targets: tuple[Target, ...]) -> list[str]:
    return [target.address for target in targets]


def test_lines_comments_and_names() -> None:
    text = "\ufeff# ours\n\n a:1 \nb:2# the second\r\ndns:///pool:3\na:1\n[::1]:4".removeprefix("\ufeff")
    targets = parse_worker_file(text, Path("f"))
    assert addresses(targets) == ["a:1", "b:2", "pool:3", "[::1]:4"]
    assert [target.resolve for target in targets] == [False, False, True, False]
    assert parse_worker_file("# none yet\n", Path("f")) == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a:1\n\nnonsense\n", r"line 3: 'nonsense': expected host:port"),
        (b"a:1\nb:2, c:3\n", r"line 2: "),
        (b"a:1\n\xff\xfe\n", r"line 2: not UTF-8"),
        (b"x" * (MAX_BYTES + 1), r"has more than 16777216 bytes"),
        (None, r"it cannot be read: No such file"),
    ],
)
async def test_a_bad_file_stops_the_start_and_says_where(content: bytes | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "workers"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FailedPrecondition, match=told) as caught:
        await WorkerFile(path, lambda _: None).load()
    assert str(path) in caught.value.message


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[Seen]:
    seen: Seen = asyncio.Queue()
    file = WorkerFile(path, seen.put_nowait, interval_s=0.005)
    await file.load()
    task = asyncio.create_task(file.run())
    try:
        async with asyncio.timeout(20):
            yield seen
    finally:
        task.cancel()


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def rename_into_place(path: Path, text: str) -> None:
    other = path.with_name("other")
    other.write_text(text)
    other.rename(path)


@pytest.mark.parametrize("change", [rewrite, rename_into_place])
async def test_changes_are_seen(change: Callable[[Path, str], None], tmp_path: Path) -> None:
    path = tmp_path / "workers"
    path.write_text("a:1")
    async with following(path) as seen:
        assert addresses(await seen.get()) == ["a:1"]
        change(path, "b:1")
        assert addresses(await seen.get()) == ["b:1"]
        change(path, "b:1\nc:1")
        assert addresses(await seen.get()) == ["b:1", "c:1"]


async def test_a_config_map_that_swaps_its_links(tmp_path: Path) -> None:
    """As the kubelet does: workers → ..data/workers, ..data → a folder, replaced by a rename."""
    for name, text in (("one", "a:1"), ("two", "b:1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "workers").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    path = tmp_path / "workers"
    path.symlink_to("..data/workers")
    async with following(path) as seen:
        assert addresses(await seen.get()) == ["a:1"]
        (tmp_path / "..tmp").symlink_to("two")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        assert addresses(await seen.get()) == ["b:1"]


async def test_a_bad_change_is_logged_once_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(worker_file._log, "error", lambda text, what: told.put_nowait(text % what))
    path = tmp_path / "workers"
    path.write_text("a:1")
    async with following(path) as seen:
        assert addresses(await seen.get()) == ["a:1"]
        path.write_text("a:1\nb:")
        assert "line 2" in await told.get()
        path.unlink()
        line = await told.get()
        assert "cannot be read" in line
        assert line.endswith("keeping the previous workers")
        path.write_text("c:1")
        assert addresses(await seen.get()) == ["c:1"]
    assert told.empty()
