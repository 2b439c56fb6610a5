"""What a person sees of long work: bars on a terminal, lines elsewhere."""

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from infermesh_client.cli.output.waiting import waiting_columns
from infermesh_client.model_import.progress import ProgressView
from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.doctor.fake_server import Answer, fake_server


def shown(*, fails: bool) -> str:
    """What the bar of a step says at last that is half done when it ends."""
    out = io.StringIO()
    view = ProgressView(Console(file=out, force_terminal=True, width=80, color_system=None))
    try:
        with view.fraction_step("Comparing") as step:
            step.set(0.5)
            assert not fails
    except AssertionError:
        pass
    last: str = re.findall(r"(\d+%) 0:00:0", out.getvalue())[-1]
    return last


def test_a_step_that_ends_early_is_done_and_one_that_fails_is_not() -> None:
    assert (shown(fails=False), shown(fails=True)) == ("100%", "50%")


@pytest.mark.parametrize("title", ["Copying model[v1].gguf", "Copying [/y].gguf"])
def test_brackets_in_a_title_are_shown(title: str) -> None:
    out = io.StringIO()
    view = ProgressView(Console(file=out, force_terminal=True, width=80, color_system=None))
    with view.bytes_step(title, 1000):
        pass
    assert title in out.getvalue()


def test_an_import_has_lines_in_a_log(tiny_gguf: Path, infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh_client.model_import.convert.entry_points", lambda group: [])
    result = infermesh("models", "import", str(tiny_gguf), "--name", "tiny", "--no-verify")
    first, *_, last = result.stderr.splitlines()
    assert re.fullmatch(r"Copying tiny.gguf \(\d+\.\d MB\)", first)
    assert last.startswith("Imported tiny")
    assert "\x1b" not in result.stderr


def test_doctor_says_what_it_waits_for(open_terminal: OpenTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    with fake_server() as server:
        server.rule = lambda _: Answer(status=200 if answering.wait(30) else 500)
        terminal = open_terminal("doctor", "openai", "--url", server.url, "--model", "tiny")
        terminal.read_until("Trying: ")
        terminal.read_until("0:00:01")
        answering.set()


def test_a_long_wait_is_wrapped_and_keeps_its_clock() -> None:
    out = io.StringIO()
    progress = Progress(*waiting_columns(), console=Console(file=out, width=40))
    progress.add_task("waiting for the worker at 127.0.0.1:37281 (starting the engine process)", total=None)
    progress.console.print(progress.get_renderable())
    assert {"127.0.0.1:37281", "process)", "0:00:00"} <= set(out.getvalue().split())
