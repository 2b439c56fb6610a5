"""An import asks every installed worker before it copies, and is refused where none of them can run the model."""

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from infermesh_client.model_import.workers import checks, provers
from infermesh_client.model_import.workers.checks import check_with_workers
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

Install = Callable[..., None]


def accepts(_path: Path, _format: str) -> Sequence[str]:
    return ("2 layers", "applied: a, b")


def cannot(_path: Path, _format: str) -> Sequence[str]:
    raise FailedPrecondition("no such architecture", reason="MODEL_NOT_SUPPORTED")


def is_wrong(_path: Path, _format: str) -> Sequence[str]:
    raise InvalidArgument("an unknown key")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs workers: the function of each one's check by its runner's name; None: it has no check."""

    def installed(**functions: Callable[[Path, str], Sequence[str]] | None) -> None:
        def entries(group: str) -> list[EntryPoint]:
            return [
                EntryPoint(name, f"{__name__}:{function.__name__}" if function else "unused", group)
                for name, function in functions.items()
                if function or group == provers.GROUP
            ]

        monkeypatch.setattr(EntryPoint, "load", lambda entry: functions[entry.name])
        monkeypatch.setattr(checks, "entry_points", entries)
        monkeypatch.setattr(provers, "entry_points", entries)

    return installed


def test_lines_that_two_workers_say_are_told_once(install: Install) -> None:
    install(openvino=accepts, torch=accepts)
    assert check_with_workers(Path(), "gguf") == ["openvino: 2 layers", "openvino: applied: a, b"]


@pytest.mark.parametrize("other", [accepts, None])
def test_one_that_cannot_is_named_where_another_can(install: Install, other: Callable[..., Sequence[str]]) -> None:
    install(openvino=cannot, torch=other)
    assert check_with_workers(Path(), "gguf")[0] == "openvino: cannot run it: no such architecture"


def test_a_converters_worker_may_be_the_one_that_can(install: Install) -> None:
    install(torch=cannot, openvino=accepts)
    assert "openvino: 2 layers" in check_with_workers(Path(), "gguf")


def test_a_model_that_none_can_run_is_refused(install: Install) -> None:
    install(openvino=cannot, torch=cannot)
    with pytest.raises(FailedPrecondition, match="no such architecture"):
        check_with_workers(Path(), "gguf")


def test_a_wrong_file_is_refused_whoever_could_run_it(install: Install) -> None:
    install(openvino=is_wrong, torch=accepts)
    with pytest.raises(InvalidArgument, match="an unknown key"):
        check_with_workers(Path(), "gguf")
