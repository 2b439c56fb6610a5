"""Imports of a worker, with scripts in place of the command: progress, ends of all kinds, and one at a time."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from infermesh_worker.importing import import_process
from infermesh_worker.importing import imports as imports_module
from infermesh_worker.importing.command import Wanted
from infermesh_worker.importing.import_record import ImportRecord, ImportState
from infermesh_worker.importing.imports import INTERVAL_S, Imports

WAIT_S = 20.0
WANTED = Wanted(source="hf:org/model", name="m")


class Desk:
    """Imports into a folder, whose command is a Python script."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.script = ""
        self.changes = 0
        self.loaded: set[str] = set()
        self.rescanned: list[set[str]] = []
        """The models at each rescan."""
        self._changed = asyncio.Event()
        self.tasks = TaskSupervisor()
        self.imports = self.another()

    def another(self, problem: str = "") -> Imports:
        """Further imports of another worker with the same folder."""
        return Imports(
            self.root,
            self.root.parent,
            problem=problem,
            holds=self.loaded.__contains__,
            rescan=self._rescan,
            on_change=self._note_change,
            tasks=self.tasks,
            command=self._command,
        )

    async def until(self, fits: Callable[[ImportRecord], bool]) -> ImportRecord:
        """The newest import, once it fits."""
        async with asyncio.timeout(WAIT_S):
            while not fits(self.imports.all[0]):
                self._changed.clear()
                await self._changed.wait()
        return self.imports.all[0]

    async def ended(self, script: str = "", wanted: Wanted = WANTED) -> ImportRecord:
        """Runs an import to its end."""
        self.script = script
        self.imports.start(wanted)
        return await self.until(lambda record: record.state is not ImportState.RUNNING)

    def entries(self) -> set[str]:
        """What is in the folder, but for files of locks."""
        return {entry.name for entry in self.root.iterdir() if not entry.name.endswith(".lock")}

    def _command(self, _wanted: Wanted) -> Sequence[str]:
        return (sys.executable, "-S", "-c", self.script)

    async def _rescan(self) -> None:
        self.rescanned.append(self.entries())

    def _note_change(self) -> None:
        self.changes += 1
        self._changed.set()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "models")
    yield made
    await made.imports.stop()
    await made.tasks.close()


def says(*lines: Any) -> str:
    """A script that says these lines."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return f"import os, sys, signal, time\nfor line in {texts!r}: print(line, flush=True)\n"


def step(**fields: Any) -> dict[str, Any]:
    return {"step": "Downloading", "unit": "bytes", "done": 1, "total": 4, **fields}


async def test_the_model_is_listed_before_the_import_is_done(desk: Desk) -> None:
    record = await desk.ended(says(step()) + f"os.mkdir({str(desk.root / 'm')!r})")
    assert (record.state, record.message, desk.rescanned) == (ImportState.DONE, "", [{"m"}])
    assert record.ended_at is not None
    assert record.ended_at >= record.started_at
    assert desk.imports.all == (record,)


async def test_progress_is_told_but_not_too_often(desk: Desk) -> None:
    go_on = desk.root.parent / "go-on"
    os.mkfifo(go_on)
    many = [step(done=done, total=1000) for done in range(500)]
    desk.script = says(*many) + f"open({str(go_on)!r}).read()\n"
    assert desk.imports.start(WANTED).step == "Starting"
    record = await desk.until(lambda record: record.done_bytes == 499)
    assert (record.step, record.fraction, record.total_bytes) == ("Downloading", 0.499, 1000)
    assert desk.changes <= 4 + 10 / INTERVAL_S * 0.5
    go_on.write_text("")
    assert (await desk.until(lambda record: record.state is not ImportState.RUNNING)).state is ImportState.DONE


@pytest.mark.parametrize(
    ("line", "fraction", "done_bytes", "total_bytes"),
    [
        (step(total=None), None, 1, None),
        (step(total=0, done=0), None, 0, 0),
        (step(done=9), 1.0, 9, 4),
        (step(unit="fraction", done=0.5, total=1.0), 0.5, None, None),
        (step(done=float("nan")), None, None, 4),
        (step(done=-1, total=True), None, None, None),
        (step(done="1", total=1e300), None, None, None),
    ],
)
def test_what_a_step_says(line: Any, fraction: float, done_bytes: int, total_bytes: int) -> None:
    record = new_record()
    record.note_line(json.dumps(line).encode())
    assert (record.fraction, record.done_bytes, record.total_bytes) == (fraction, done_bytes, total_bytes)


def test_texts_are_bounded_and_have_no_passwords() -> None:
    record = new_record()
    record.note_line(json.dumps({"step": "from https://me:secret@host/a?key=secret\n" + "x" * 999}).encode())
    assert record.step.startswith("from https://***@host/a?*** x")
    assert len(record.step) == 200
    record.note_line(json.dumps({"error": "y" * 9999}).encode())
    assert len(record.error) == 1000
    for junk in (b"", b"\xff", b"[]", b"1", b'"x"', b"{}", b'{"note": "x"}', b"[" * 9999):
        record.note_line(junk)


def new_record() -> ImportRecord:

    return ImportRecord("id", "hf:a/b", "m", datetime.now(UTC))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (says(step(), {"error": "no such model"}) + "sys.exit(1)", "no such model"),
        (says() + "print('warning', 'error: it broke', file=sys.stderr, sep='\\n'); sys.exit(3)", "it broke"),
        (says() + "print('│ bad option │\\n╰───╯', file=sys.stderr); sys.exit(2)", "bad option"),
        (says() + "sys.exit(3)", "the import ended with exit code 3"),
        (says() + "os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("print('x' * 999_999)\n" + says({"error": "after a long line"}) + "sys.exit(1)", "after a long line"),
    ],
)
async def test_a_failure_says_why(desk: Desk, script: str, message: str) -> None:
    record = await desk.ended(script)
    assert record.state is ImportState.FAILED
    assert message in record.message
    assert desk.rescanned == [set()]


async def test_a_command_that_is_not_there_is_a_failure(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    record = await desk.ended()
    assert record.state is ImportState.FAILED
    assert "No such file" in record.message
    monkeypatch.undo()
    assert (await desk.ended(says())).state is ImportState.DONE


LEAVING = """
import subprocess
root = {root!r}
os.mkdir(root + "/.import-m-abc")
os.makedirs(root + "/.downloads/new")
open(root + "/.downloads/new/.lock", "w").close()
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
print('{{"step": "child %d"}}' % child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("stubborn", [False, True])
async def test_nothing_is_left_of_a_cancelled_import(
    desk: Desk, stubborn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_process, "GRACE_S", 0.1 if stubborn else WAIT_S)
    (desk.root / ".downloads" / "of an earlier import").mkdir(parents=True)
    ignoring = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    desk.script = says() + ignoring + LEAVING.format(root=str(desk.root))
    begun = desk.imports.start(WANTED)
    told = await desk.until(lambda record: record.step.startswith("child"))
    child = psutil.Process(int(told.step.removeprefix("child ")))
    ended = await desk.imports.cancel(begun.import_id)
    assert (ended.state, ended.message) == (ImportState.CANCELLED, "")
    with suppress(psutil.NoSuchProcess):  # its parent has ended, so somebody else reaps it
        child.wait(WAIT_S)
    assert desk.entries() == {".downloads"}
    assert [entry.name for entry in (desk.root / ".downloads").iterdir()] == ["of an earlier import"]
    assert (await desk.imports.cancel(begun.import_id)) is ended
    with pytest.raises(NotFound):
        await desk.imports.cancel("unknown")


async def test_an_import_that_ended_before_the_cancel_is_done(desk: Desk) -> None:
    script = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
    desk.script = says() + script + 'print(\'{"step": "ready"}\', flush=True)\nsignal.pause()'
    begun = desk.imports.start(WANTED)
    await desk.until(lambda record: record.step == "ready")
    assert (await desk.imports.cancel(begun.import_id)).state is ImportState.DONE


@pytest.mark.parametrize("end", ["sys.exit(130)", "os.kill(os.getpid(), 9)", "signal.pause()"])
async def test_an_import_whose_model_is_there_is_done(desk: Desk, end: str) -> None:
    desk.script = says() + f"os.mkdir({str(desk.root / 'm')!r})\n" + says({"published": True}, step()) + end
    begun = desk.imports.start(WANTED)
    await desk.until(lambda record: bool(record.done_bytes) or record.state is not ImportState.RUNNING)
    if end == "signal.pause()":
        await desk.imports.cancel(begun.import_id)
    ended = await desk.until(lambda record: record.state is not ImportState.RUNNING)
    assert (ended.state, ended.message) == (ImportState.DONE, "")
    assert desk.rescanned == [{"m"}]


async def test_one_import_at_a_time_in_a_folder(desk: Desk) -> None:
    desk.script = says() + "signal.pause()"
    begun, other = desk.imports.start(WANTED), desk.another()
    with pytest.raises(ResourceExhausted, match="imports 'm'") as error:
        desk.imports.start(Wanted(source="hf:a/b", name="n"))
    assert error.value.reason == "IMPORT_RUNNING"
    with pytest.raises(ResourceExhausted, match="shares its models folder"):
        other.start(Wanted(source="hf:a/b", name="n"))
    await desk.imports.cancel(begun.import_id)
    desk.script = says()
    other.start(WANTED)
    await other.stop()


async def test_a_name_that_is_taken_needs_force(desk: Desk) -> None:
    (desk.root / "m").mkdir()
    with pytest.raises(AlreadyExists):
        desk.imports.start(WANTED)
    replacing = Wanted(source="hf:a/b", name="m", force=True)
    desk.loaded.add("m")
    with pytest.raises(FailedPrecondition, match="loaded") as error:
        desk.imports.start(replacing)
    assert error.value.reason == "MODEL_IN_USE"
    desk.loaded.clear()
    assert (await desk.ended(says(), replacing)).state is ImportState.DONE


async def test_the_last_ones_are_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports_module, "KEPT", 2)
    desk.imports = desk.another()
    for number in range(5):
        await desk.ended("", Wanted(source="hf:a/b", name=f"m{number}"))
    assert [record.name for record in desk.imports.all] == ["m4", "m3", "m2"]


async def test_a_worker_that_cannot_says_why(desk: Desk) -> None:
    with pytest.raises(FailedPrecondition, match="there is no command"):
        desk.another("there is no command").start(WANTED)


def test_signals_have_names() -> None:
    assert "SIGTERM" in new_record().problem_of(import_process.Outcome(-signal.SIGTERM, ""))
