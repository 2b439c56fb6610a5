"""The command on narrow, dumb and absent terminals: no word is broken, and nothing is kept from anybody."""

from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.conftest import RunningMesh


def test_an_error_is_wrapped_at_its_words_on_a_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("drain", "x:1", "--endpoint", mesh.address, COLUMNS="30", NO_COLOR="1")
    terminal.read_until("error: ")
    lines = [line.strip() for line in terminal.read_until("10.0.0.1:7.").splitlines()]
    assert lines == ["There is no endpoint", "'x:1'; available: 10.0.0.1:7."]


def test_an_error_is_one_line_in_a_log(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("drain", f"{'x' * 200}:1", "--endpoint", mesh.address)
    assert len(result.stderr.splitlines()[-1]) > 200


def test_status_is_printed_once_on_a_terminal_that_cannot_redraw(
    mesh: RunningMesh, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal("status", "--endpoint", mesh.address, TERM="dumb")
    assert "\x1b" not in terminal.read_until("READY")
    assert terminal.wait() == 0
