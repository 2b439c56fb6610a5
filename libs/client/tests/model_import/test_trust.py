"""Models that can run code of their makers are imported only from makers whom the user says to trust."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from infermesh_client.cli.models import importing as cli_importing
from infermesh_client.cli.models.models_app import models_app
from infermesh_client.model_import import importer
from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.tensor_models import describe as describing
from infermesh_client.model_import.tensor_models import importing
from infermesh_runtime.errors import FailedPrecondition

VIEW = ProgressView(Console(quiet=True))
Import = Callable[[str, ImportOptions], object]


class ReadError(Exception):
    """A worker was asked to read the file."""


@pytest.fixture(autouse=True)
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> Mapping[str, Any]:
        raise ReadError

    monkeypatch.setattr(importing, "describe", read)
    monkeypatch.setattr(importer, "unpacked", read)
    monkeypatch.setattr(describing, "run_apart", read)


@pytest.fixture(params=["import", "dry run"])
def attempt(request: pytest.FixtureRequest, tmp_path: Path) -> Import:
    if request.param == "import":
        return lambda source, options: import_model(source, "m", tmp_path / "models", VIEW, options)
    return lambda source, options: examine_model(source, tmp_path / "models", VIEW, options)


@pytest.mark.parametrize("name", ["m.pt2", "m.pt", "m.ts"])
def test_programs_of_torch_are_not_read_without_trust(attempt: Import, tmp_path: Path, name: str) -> None:
    graph = tmp_path / "files" / name
    graph.parent.mkdir()
    graph.write_bytes(b"x")
    for source in (str(graph), str(graph.parent), f"pypi:package==1.0:folder/{name}"):
        with pytest.raises(FailedPrecondition, match=rf"^{name} .* run code of its maker .* give --trust-code"):
            attempt(source, ImportOptions())
        with pytest.raises(ReadError):
            attempt(source, ImportOptions(trust_code=True))


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite", ".pb", ".pdmodel"])
def test_other_models_of_tensors_need_no_trust(attempt: Import, tmp_path: Path, suffix: str) -> None:
    graph = tmp_path / f"m{suffix}"
    graph.write_bytes(b"x")
    with pytest.raises(ReadError):
        attempt(str(graph), ImportOptions())


@pytest.mark.parametrize("given", [[], ["--trust-code"]])
def test_the_command_takes_the_users_word(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    wanted: list[ImportOptions] = []
    monkeypatch.setattr(cli_importing, "run_dry_import", lambda _source, options: wanted.append(options))
    assert CliRunner().invoke(models_app, ["import", "m.pt2", "--dry-run", *given]).exit_code == 0
    assert [options.trust_code for options in wanted] == [bool(given)]
