"""Settings are read from the environment, and wrong ones are refused with a clear message."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import Field

from infermesh_runtime import settings
from infermesh_runtime.settings import CommaList, ServiceSettings


class ShopSettings(ServiceSettings):
    workers: CommaList = Field((), description="Where the workers are.")
    blocks: int = Field(8, ge=1, description="Blocks in the cache.")
    fancy: bool = Field(False, description="Whether to be fancy.")


class NeedySettings(ServiceSettings):
    model: str = Field(description="Name of the model.")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.upper().startswith("INFERMESH_")]:
        monkeypatch.delenv(name)


def load_bad(cls: type[settings.ServiceSettings], capsys: pytest.CaptureFixture[str], argv: Sequence[str] = ()) -> str:
    with pytest.raises(SystemExit) as ended:
        settings.load_or_exit(cls, argv)
    assert ended.value.code == 2
    return str(capsys.readouterr().err)


def test_defaults() -> None:
    got = settings.load_or_exit(ShopSettings, ())
    assert (got.listen, got.metrics_listen, got.log_level, got.drain_s) == ("127.0.0.1:0", "", "info", 30.0)
    assert got.workers == ()


def test_variables_are_read_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_LISTEN", "[::1]:81")
    monkeypatch.setenv("INFERMESH_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("INFERMESH_WORKERS", " a:1, dns:///b:2 ,,")
    got = settings.load_or_exit(ShopSettings, ())
    assert (got.listen, got.log_level, got.workers) == ("[::1]:81", "debug", ("a:1", "dns:///b:2"))
    with pytest.raises(ValueError, match="frozen"):
        got.listen = "x:1"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INFERMESH_LISTEN", "nowhere", "host:port"),
        ("INFERMESH_LISTEN", "h:65536", "0 to 65535"),
        ("INFERMESH_LISTEN", "::1:80", "brackets"),
        ("INFERMESH_LISTEN", ":80", "host:port"),
        ("INFERMESH_LISTEN", "", "host:port"),
        ("INFERMESH_METRICS_LISTEN", "x", "host:port"),
        ("INFERMESH_LOG_LEVEL", "loud", "'debug', 'info'"),
        ("INFERMESH_DRAIN_S", "soon", "number"),
        ("INFERMESH_DRAIN_S", "-1", "greater than or equal to 0"),
        ("INFERMESH_DRAIN_S", "nan", "86400"),
        ("INFERMESH_BLOCKS", "0", "Blocks in the cache."),
        ("INFERMESH_FANCY", "maybe", "boolean"),
    ],
)
def test_a_malformed_value_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    problem = load_bad(ShopSettings, capsys)
    assert f"{variable}={value!r}" in problem
    assert says in problem
    assert len(problem.splitlines()) == 1


def test_every_problem_has_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("INFERMESH_BLOCKS", "x")
    monkeypatch.setenv("INFERMESH_DRAIN_S", "x")
    monkeypatch.setenv("INFERMESH_BLOKCS", "1")
    assert len(load_bad(ShopSettings, capsys).splitlines()) == 3


def test_an_unknown_variable_names_the_closest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFERMESH_DRIAN_S", "1")
    problem = load_bad(ShopSettings, capsys)
    assert "INFERMESH_DRIAN_S" in problem
    assert "INFERMESH_DRAIN_S" in problem


def test_a_missing_required_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "INFERMESH_MODEL is not set" in load_bad(NeedySettings, capsys)


def test_variables_of_other_installed_services_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other_service.py").write_text(
        "from infermesh_runtime.settings import ServiceSettings\nclass Other(ServiceSettings):\n    teapots: int = 1\n"
    )
    register(tmp_path, "other_service:Other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("INFERMESH_TEAPOTS", "2")
    settings.load_or_exit(ShopSettings, ())


@pytest.mark.parametrize("value", ["no_such_module_here:X", "os:NoSuchClass", "os:sep"])
def test_a_broken_registration_is_told_when_it_matters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    register(tmp_path, value)
    monkeypatch.syspath_prepend(tmp_path)
    settings.load_or_exit(ShopSettings, ())
    monkeypatch.setenv("INFERMESH_ODD", "2")
    problem = load_bad(ShopSettings, capsys)
    assert "INFERMESH_ODD is not a setting" in problem
    assert value in problem


def register(folder: Path, value: str) -> None:
    info = folder / "other_service-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-service\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[infermesh.settings]\nother = {value}\n")


def test_help_lists_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.load_or_exit(ShopSettings, ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in settings.describe(ShopSettings):
        assert f"{option.variable}={option.default}" in text
        assert option.help in text


def test_describe() -> None:
    by_name = {option.variable: option for option in settings.describe(ShopSettings)}
    assert by_name["INFERMESH_DRAIN_S"].default == "30"
    assert by_name["INFERMESH_FANCY"].default == "false"
    assert by_name["INFERMESH_WORKERS"].help == "Where the workers are."
    assert settings.describe(NeedySettings)[-1].default == "(required)"


def test_services_take_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'--port'" in load_bad(ShopSettings, capsys, ["--port", "1"])


def test_split_host_port() -> None:
    assert settings.split_host_port("[::1]:8") == ("::1", 8)
    assert settings.split_host_port("a.b:0") == ("a.b", 0)
    for host in ("a..b", 64 * "x"):
        with pytest.raises(ValueError, match="cannot be a host name"):
            settings.split_host_port(f"{host}:1")
