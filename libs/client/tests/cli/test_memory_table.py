"""The table of loaded models in `infermesh models`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client.cli.models.models_table import models_view
from libs.client.tests.cli.conftest import RunCommand
from libs.client.tests.conftest import RunningMesh

NOW = datetime(2026, 1, 3, 12, tzinfo=UTC)


def row(width: int = 100, **fields: Any) -> str:
    shown: dict[str, Any] = {"name": "tiny", "state": pb.ENDPOINT_STATE_READY} | fields
    model = pb.ModelStatus(**shown)
    console = Console(width=width)
    with console.capture() as printed:
        console.print(models_view([model], [], Path("/models"), NOW))
    *_, last, root = filter(str.strip, printed.get().splitlines())
    assert root == "/models"
    return " ".join(last.split())


def used(ago: timedelta) -> dict[str, Any]:
    message = pb.ModelStatus()
    message.last_used_at.FromDatetime(NOW - ago)
    return {"last_used_at": message.last_used_at}


def test_loaded_model_shows_its_weights_kv_cache_and_memory() -> None:
    sizes = {"size_bytes": 92 * 10**6, "kv_cache_bytes": 5_200 * 10**6, "memory_bytes": 5_450 * 10**6}
    assert row(**sizes) == "tiny READY 92 MB up to 5.2 GB 5.5 GB no unused never"
    assert row() == "tiny READY - - - no unused never"


def test_a_model_that_loads_shows_how_far_it_is() -> None:
    loading = pb.ENDPOINT_STATE_LOADING
    assert row(state=loading, load_fraction=0.62, load_left_s=4.7).startswith("tiny LOADING 62 %, 5 s left - ")
    assert row(state=loading, load_fraction=0.99).startswith("tiny LOADING 99 % - ")
    assert row(state=loading).startswith("tiny LOADING - ")


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"pinned": True, "keep_alive_s": 900}, "yes unused never"),
        ({"keep_alive_s": 900}, "no unused 15 min"),
        ({"keep_alive_s": 45, "sequences": 1}, "no in use 45 s"),
        (used(timedelta(hours=5)), "no 5 h never"),
        (used(timedelta(seconds=-3)), "no 0 s never"),  # the clock of another machine
    ],
)
def test_loaded_model_shows_how_long_it_stays(fields: dict[str, Any], shown: str) -> None:
    assert row(**fields).endswith(f" {shown}")


def test_a_narrow_terminal_has_lines_instead() -> None:
    lines = row(60, keep_alive_s=900, pinned=True)
    assert lines == "use unused · pinned · never unloaded"
    assert row(60, keep_alive_s=900, sequences=1) == "use in use · unloaded after 15 min"


def test_a_narrow_terminal_names_each_model_once() -> None:
    console = Console(width=60)
    model = pb.ModelStatus(name="tiny", state=pb.ENDPOINT_STATE_LOADING, load_fraction=0.5, memory_bytes=10**9)
    with console.capture() as printed:
        console.print(models_view([model], [], Path("/models"), NOW))
    assert printed.get().count("tiny") == 1
    assert "tiny  LOADING 50 %" in printed.get()
    assert "1.0 GB · weights -" in printed.get()


def test_models_lists_what_is_loaded(mesh: RunningMesh, infermesh: RunCommand) -> None:
    printed = infermesh("models", "--endpoint", mesh.address).stdout
    assert "KV cache" in printed
    assert "unloaded after" in printed
