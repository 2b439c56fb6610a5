"""Help texts: they fit the terminal, their examples are commands that parse, and shells complete names."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from infermesh_client.cli.app import app
from libs.client.tests.cli.conftest import COMMAND, RunCommand


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command under the group with the words that call it."""
    yield names, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)


ALL = dict(commands(typer.main.get_command(app)))
EXAMPLES = [
    line.replace("\\[", "[")
    for command in ALL.values()
    for line in (command.epilog or "").splitlines()
    if "infermesh " in line
]


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_help_fits_a_terminal(names: tuple[str, ...], infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = infermesh(*names, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for line in EXAMPLES:
        if line in (ALL[names].epilog or ""):
            assert f" {line} " in result.stdout, "no example is wrapped"


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_parse(line: str) -> None:
    words = shlex.split(re.split(r" [|<>(]", line)[0])
    words = words[words.index("infermesh") + 1 :]
    command = ALL[()]
    while getattr(command, "commands", None) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert command.make_context("infermesh", words)


def test_shells_complete_models_devices_and_endpoints(models_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models_root / "tiny").mkdir(parents=True)
    (models_root / "tiny" / "infermesh.json").write_text("{}")

    def offered(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_INFERMESH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        program = "from infermesh_client.cli.app import app; app(prog_name='infermesh')"
        ended = subprocess.run([COMMAND[0], "-c", program], capture_output=True, text=True, check=True)
        return ended.stdout.split()

    assert offered("infermesh chat --model ") == ["tiny"]
    assert offered("infermesh chat --device c") == ["cpu", "cuda"]
    assert "status" in offered("infermesh st")
    assert offered("infermesh drain ") == []
