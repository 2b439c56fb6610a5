"""A router's admin address on TCP needs the mesh token or TLS, and other addresses than loopback need TLS."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from infermesh_router.config.settings import RouterSettings


def configured(**values: object) -> RouterSettings:
    return RouterSettings.model_validate(values)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    paths = {f"mesh_{name}": str(tmp_path / name) for name in ("ca", "cert", "key")}
    for path in paths.values():
        Path(path).touch()
    return paths


def test_a_socket_needs_nothing() -> None:
    assert configured(admin_listen="unix:/run/admin.sock").admin_listen == "unix:/run/admin.sock"


def test_tcp_needs_the_token_or_tls(tls: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="stop the mesh"):
        configured(admin_listen="127.0.0.1:9")
    configured(admin_listen="127.0.0.1:9", mesh_token="t")
    configured(admin_listen="127.0.0.1:9", **tls)


def test_insecure_does_not_open_it_to_everybody() -> None:
    with pytest.raises(ValidationError, match="stop the mesh"):
        configured(admin_listen="0.0.0.0:9", insecure=True)


def test_a_token_is_not_sent_over_a_network_in_plain_text_unless_that_is_asked_for(tls: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"ADMIN_LISTEN='0\.0\.0\.0:9' can be reached from other machines"):
        configured(admin_listen="0.0.0.0:9", mesh_token="t")
    configured(admin_listen="0.0.0.0:9", mesh_token="t", insecure=True)
    configured(admin_listen="0.0.0.0:9", **tls)


def test_networks_are_checked() -> None:
    with pytest.raises(ValidationError, match="does not appear to be an IPv4 or IPv6 network"):
        configured(registration_networks=("10.0.0.0/8", "nonsense"))
