"""Texts of models and workers that are printed: nothing in them moves a terminal, and files get them unchanged."""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import infermesh_client.cli
from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli import status
from infermesh_client.cli.models import importing
from infermesh_client.model_import.options import ImportOptions

HOSTILE = "a\x1b]0;title\x07b\x7f\x9b2Jc"
SHOWN = "a␛]0;title␇b␡\ufffd2Jc"
SHOWN_JSON = "a\\u001b]0;title\\u0007b␡\ufffd2Jc"


on_both = pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "file"])


@on_both
def test_what_a_file_says_of_itself(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setattr("infermesh_client.model_import.importer.examine_model", lambda *_: [f"license: {HOSTILE}"])
    importing.run_dry_import("x.gguf", ImportOptions())
    assert capsys.readouterr().out == f"license: {SHOWN if is_terminal else HOSTILE}\n"


@pytest.fixture
def hostile_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    report = inference_pb2.HealthReport(state=inference_pb2.ENDPOINT_STATE_READY, message=HOSTILE)

    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(health=lambda: report)

    monkeypatch.setattr(status, "connect", connect)


@pytest.mark.usefixtures("hostile_worker")
@on_both
def test_what_a_worker_says_of_its_health(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    status.run_health("127.0.0.1:1", check=False, as_json=False)
    assert (SHOWN if is_terminal else HOSTILE) in capsys.readouterr().out
    status.run_health("127.0.0.1:1", check=False, as_json=True)
    told = capsys.readouterr().out
    assert (SHOWN_JSON in told) == is_terminal
    assert ("\x9b" in told) != is_terminal


def test_every_command_prints_json_with_signs() -> None:
    """JSON that keeps letters as they are keeps the controls after U+007E as well."""
    folder = Path(infermesh_client.cli.__file__).parent
    bare = [f"{path.name}:{call.lineno}" for path in folder.rglob("*.py") for call in _bare_prints(path)]
    assert not bare


def _bare_prints(path: Path) -> Iterator[ast.Call]:
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {"print", "sys.stdout.write"} and call.args:
            told = ast.unparse(call.args[0])
            if "ensure_ascii=False" in told and not told.startswith("printable("):
                yield call
