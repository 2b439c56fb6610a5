"""Who may manage the mesh through MeshService: its owner by a secret, and whoever has an admin key."""

from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.config.settings import RouterSettings
from infermesh_router.mesh.owner import Owner
from infermesh_router.testing.keyed import generate, refusal
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker
from infermesh_runtime.errors import InfermeshError, NotFound, PermissionDenied, Unauthenticated

SECRET = "owner-" * 8
OWNER = (("x-infermesh-manage-key", SECRET),)
NOT_OWNERS: dict[str, Any] = {
    "none": (),
    "wrong": (("x-infermesh-manage-key", SECRET[:-1]),),
    "empty": (("x-infermesh-manage-key", ""),),
    "two": (*OWNER, ("x-infermesh-manage-key", "other")),
}


@pytest.fixture
def manage_key_file(tmp_path: Path) -> Path:
    path = tmp_path / "manage.key"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
async def keyed(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path, manage_key_file: Path
) -> RunningRouter:
    path = write_keys_of(tmp_path / "keys.json", a={}, boss={"admin": True})
    return await start_router(await start_worker(), keys_file=path, manage_key_file=str(manage_key_file))


MANAGING = {
    "DrainEndpoint": admin.DrainEndpointRequest(address="none"),
    "ResumeEndpoint": admin.ResumeEndpointRequest(address="none"),
    "LoadModel": admin.LoadModelRequest(model="none"),
    "UnloadModel": admin.UnloadModelRequest(model="none"),
}
"""Actions that change nothing here, because there is no such endpoint or model."""


async def manage(router: RunningRouter, metadata: Any, call: str = "DrainEndpoint") -> InfermeshError:
    """The refusal of an action: NotFound for those who may."""
    error, _ = await refusal(getattr(router.mesh, call)(MANAGING[call], metadata=metadata))
    return error


@pytest.mark.parametrize("call", MANAGING)
async def test_a_key_must_allow_managing(keyed: RunningRouter, call: str) -> None:
    refused = await manage(keyed, bearer("a"), call)
    assert isinstance(refused, PermissionDenied)
    assert refused.reason == "ADMIN_KEY_NEEDED"
    assert isinstance(await manage(keyed, (), call), Unauthenticated)
    assert isinstance(await manage(keyed, bearer("boss"), call), NotFound)


async def test_the_audit_log_names_the_key(keyed: RunningRouter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="infermesh.audit")
    await manage(keyed, bearer("boss"))
    (line,) = [record for record in caplog.records if record.name == "infermesh.audit"]
    assert line.__dict__["who"] == "key boss"
    assert (line.__dict__["action"], line.__dict__["result"]) == ("DrainEndpoint", "NOT_FOUND")


async def may_manage(router: RunningRouter, metadata: Any) -> bool:
    """What the mesh tells a page about its caller."""
    listed = await router.mesh.ListEndpoints(pb.ListEndpointsRequest(), metadata=metadata)
    return bool(listed.may_manage)


async def test_only_the_owner_manages_a_mesh_without_keys(
    start_worker: StartWorker, start_router: StartRouter, manage_key_file: Path
) -> None:
    router = await start_router(await start_worker(), manage_key_file=str(manage_key_file))
    for name, metadata in NOT_OWNERS.items():
        refused = await manage(router, metadata)
        assert isinstance(refused, PermissionDenied), name
        assert "`infermesh ui`" in str(refused)
        assert "--admin" in str(refused)
        assert not await may_manage(router, metadata), name
    for call in MANAGING:
        assert isinstance(await manage(router, OWNER, call), NotFound)
    assert await may_manage(router, OWNER)


async def test_a_router_without_the_secret_has_no_owner(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    for metadata in (*NOT_OWNERS.values(), OWNER):
        assert isinstance(await manage(router, metadata), PermissionDenied)


async def test_the_owner_manages_a_mesh_with_keys(keyed: RunningRouter) -> None:
    for metadata in (OWNER, (*OWNER, *bearer("a")), (*OWNER, *bearer("unknown"))):
        assert isinstance(await manage(keyed, metadata), NotFound)
        assert await may_manage(keyed, metadata)
    wrong = NOT_OWNERS["wrong"]
    assert isinstance(await manage(keyed, wrong), Unauthenticated)
    assert isinstance(await manage(keyed, (*wrong, *bearer("a"))), PermissionDenied)
    assert not await may_manage(keyed, (*wrong, *bearer("a")))
    assert isinstance(await manage(keyed, (*wrong, *bearer("boss"))), NotFound)


async def test_the_owner_needs_a_key_to_ask_for_text(keyed: RunningRouter) -> None:
    error, _ = await refusal(generate(keyed, OWNER))
    assert isinstance(error, Unauthenticated)


async def test_the_secret_goes_nowhere(
    start_worker: StartWorker, start_router: StartRouter, manage_key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    worker = await start_worker()
    router = await start_router(worker, manage_key_file=str(manage_key_file))
    await manage(router, OWNER)
    await manage(router, NOT_OWNERS["wrong"])
    await generate(router, OWNER)
    records = [str(record.__dict__) for record in caplog.records if record.name.startswith("infermesh")]
    assert any("'who': 'owner'" in record for record in records)
    assert not any(SECRET[:-1] in record for record in records)
    assert worker.metadata
    assert not any(SECRET in str(told) for told in worker.metadata)


class Told:
    """The context of a call with this metadata; from Envoy a header may have any bytes."""

    def __init__(self, *values: str | bytes) -> None:
        self._values = values

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return tuple(("x-infermesh-manage-key", value) for value in self._values)


def test_any_bytes_are_compared() -> None:
    for values in (("\u00fc" * 48,), (b"\xff" * 48,), (), (SECRET, SECRET)):
        assert not Owner(SECRET).calls(cast("Any", Told(*values)))
    assert Owner(SECRET).calls(cast("Any", Told(SECRET)))
    assert not Owner("").calls(cast("Any", Told("")))


def settings(path: object) -> RouterSettings:
    options: dict[str, Any] = {"manage_key_file": str(path)}
    return RouterSettings(**options)


def test_the_file_is_read(manage_key_file: Path) -> None:
    assert settings(manage_key_file).manage_key() == SECRET
    assert settings("").manage_key() == ""


@pytest.mark.parametrize("content", ["", "short", "x" * 513, "two words " * 5, "\u00fc" * 40, "x" * 40 + "\ny"])
def test_a_bad_secret_stops_the_start(manage_key_file: Path, content: str) -> None:
    manage_key_file.write_text(content)
    with pytest.raises(ValidationError, match="must hold one secret of 32 to 512 visible ASCII characters") as error:
        settings(manage_key_file)
    assert not content or content not in str(error.value)


def test_a_file_that_others_can_read_stops_the_start(manage_key_file: Path) -> None:
    manage_key_file.chmod(0o604)
    with pytest.raises(ValidationError, match="open to other users of this machine; close it with `chmod 600"):
        settings(manage_key_file)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"manage.key' cannot be read: No such file"):
        settings(tmp_path / "manage.key")
    with pytest.raises(ValidationError, match="is not a file"):
        settings("/dev/null")
