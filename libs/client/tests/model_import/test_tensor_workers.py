"""Which worker's word counts when a model of tensors is imported, and which error is told when none can serve it."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.tensor_models import describe as describing
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument

Describe = Callable[[], Mapping[str, Any]]
Ask = Callable[..., describing.TensorModelFacts]


def finds() -> Mapping[str, Any]:
    return {"format": "onnx", "files": ["m.onnx"], "inputs": [], "outputs": [], "batching": None}


def cannot() -> Mapping[str, Any]:
    raise FailedPrecondition("an unknown operation", reason="MODEL_NOT_SUPPORTED")


def reads_others() -> Mapping[str, Any]:
    raise InvalidArgument("expected a file that ends in .pt2", reason=describing.OTHER_FORMAT)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Asks workers: what each one says, by its runner's name."""

    def asked(**says: Describe) -> describing.TensorModelFacts:
        entries = [EntryPoint(name, "unused", describing.GROUP) for name in says]
        monkeypatch.setattr(describing, "entry_points", lambda group: entries)
        monkeypatch.setattr(describing, "run_apart", lambda entry, *_: says[entry.name]())
        return describing.describe(Path("m.onnx"), tmp_path, ProgressView(Console(quiet=True)))

    return asked


def test_the_first_that_can_serve_it_says_what_it_is(ask: Ask) -> None:
    assert ask(openvino=finds, torch=cannot).not_for == ()
    assert ask(torch=finds, openvino=reads_others).not_for == ()


def test_one_that_cannot_run_it_is_noted(ask: Ask) -> None:
    assert ask(torch=finds, openvino=cannot).not_for == ("openvino",)


def test_the_error_of_a_worker_that_reads_such_files_is_told(ask: Ask) -> None:
    with pytest.raises(FailedPrecondition, match="an unknown operation"):
        ask(openvino=reads_others, torch=cannot)
    with pytest.raises(InfermeshError, match=r"no worker is installed that can serve m\.onnx"):
        ask(openvino=reads_others)
