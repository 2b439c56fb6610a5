"""The file of keys as the router follows it: what it needs at the start, and that no accident opens the mesh."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infermesh_router.access.keys_file import FollowedKeys
from infermesh_router.testing.admission import until
from infermesh_router.testing.keys import key_of, secret_of, write_keys_of
from infermesh_runtime.api_keys import read_keys, write_keys
from infermesh_runtime.errors import FailedPrecondition, Unauthenticated


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[FollowedKeys]:
    keys = FollowedKeys(path, interval_s=0.002)
    await keys.load()
    task = asyncio.create_task(keys.run())
    try:
        async with asyncio.timeout(20):
            yield keys
    finally:
        task.cancel()


def accepts(keys: FollowedKeys, name: str) -> bool:
    if keys.keyring is None:
        return False
    try:
        return keys.keyring.verify(secret_of(name)).name == name
    except Unauthenticated:
        return False


async def test_without_a_file_no_key_is_needed(tmp_path: Path) -> None:
    for keys in (FollowedKeys(None), FollowedKeys(tmp_path / "none")):
        await keys.load()
        assert keys.keyring is None


async def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"There is no file of API keys .*none"):
        await FollowedKeys(tmp_path / "none", required=True).load()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"keys": [{}]}', b'{"schema": 2, "keys": []}', b'{"keys": [], "more": 1}', b"\xff"],
)
async def test_a_bad_file_stops_the_start(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(FailedPrecondition, match=str(path)):
        await FollowedKeys(path).load()


async def test_the_same_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, (key_of("a"), key_of("a")))
    with pytest.raises(FailedPrecondition, match="same hash or name"):
        await FollowedKeys(path).load()


async def test_changes_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    async with following(path) as keys:
        assert keys.keyring is None
        write_keys_of(path, a={})
        await until(lambda: accepts(keys, "a"))
        write_keys_of(path, b={})
        await until(lambda: accepts(keys, "b"))
        assert not accepts(keys, "a")


async def test_a_file_that_breaks_or_goes_leaves_the_last_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    write_keys_of(path, a={})
    async with following(path) as keys:
        path.write_bytes(b"{")
        await until(lambda: "last keys stay in force" in caplog.text)
        assert accepts(keys, "a")
        caplog.clear()
        path.unlink()
        await until(lambda: "is gone" in caplog.text)
        assert accepts(keys, "a")
        assert caplog.text.count("is gone") == 1
        write_keys_of(path, b={})
        await until(lambda: accepts(keys, "b"))


def test_the_file_is_private_and_holds_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{}")
    path.chmod(0o666)
    write_keys_of(path, a={"models": ("m",)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret_of("a") not in path.read_text()
    assert read_keys(path)[0].models == ("m",)
    assert os.listdir(tmp_path) == ["keys.json"]  # noqa: PTH208 - nothing staged is left
