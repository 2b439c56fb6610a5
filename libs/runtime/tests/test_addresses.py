"""Which addresses can be listened on, and which of them strangers reach; then a service does not start."""

from pathlib import Path

import pytest

from infermesh_runtime.addresses import check_listen, grpc_target, is_loopback
from infermesh_runtime.settings import ServiceSettings, SettingsError, read

TLS = {"MESH_CA": "ca", "MESH_CERT": "cert", "MESH_KEY": "key"}


class Settings(ServiceSettings):
    """A service without settings of its own."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for path in TLS.values():
        (tmp_path / path).touch()


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What stops the start; "" if nothing does."""
    for name, value in variables.items():
        monkeypatch.setenv(f"INFERMESH_{name}", value)
    try:
        read(Settings)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_nothing(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    assert is_loopback(listen)
    assert problems(monkeypatch, LISTEN=listen) == ""


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "worker-7:1", "localhost.evil.example:1"])
def test_other_addresses_are_refused_in_plain_text(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    told = problems(monkeypatch, LISTEN=listen, MESH_TOKEN="secret")
    assert f"INFERMESH_LISTEN='{listen}'" in told
    assert "INFERMESH_INSECURE=1" in told
    assert "secret" not in told


@pytest.mark.parametrize("allowed", [{"INSECURE": "1"}, TLS], ids=["insecure", "tls"])
def test_unless_they_are_protected_or_asked_for(monkeypatch: pytest.MonkeyPatch, allowed: dict[str, str]) -> None:
    assert problems(monkeypatch, LISTEN="0.0.0.0:1", **allowed) == ""


def test_half_of_tls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "must be set together" in problems(monkeypatch, MESH_CA="ca", MESH_CERT="cert")


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "INFERMESH_MESH_KEY='gone' cannot be read" in problems(monkeypatch, **{**TLS, "MESH_KEY": "gone"})


def test_the_token_can_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    assert problems(monkeypatch, MESH_TOKEN_FILE="token") == ""
    assert read(Settings).token() == "from-the-file"
    (tmp_path / "token").write_text("\n")
    assert "is empty" in problems(monkeypatch)
    assert "cannot be read" in problems(monkeypatch, MESH_TOKEN_FILE="nowhere")
    assert problems(monkeypatch, MESH_TOKEN="counts-first") == ""


def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = problems(monkeypatch, MESH_TOKEN="hälf secret")
    assert "visible ASCII" in told
    assert "secret" not in told.replace("visible ASCII", "")


@pytest.mark.parametrize("listen", ["unix:relative", "unix:", "unix:/" + "x" * 110, "nonsense"])
def test_what_cannot_be_listened_on(listen: str) -> None:
    with pytest.raises(ValueError, match=r"expected|bytes"):
        check_listen(listen)


def test_the_path_of_a_socket_is_quoted_for_grpc() -> None:
    assert check_listen("unix:/ho me/100%/s.sock") == "unix:/ho me/100%/s.sock"
    assert grpc_target("unix:/ho me/100%/s.sock") == "unix:/ho%20me/100%25/s.sock"
    assert grpc_target("10.0.0.1:1") == "10.0.0.1:1"
