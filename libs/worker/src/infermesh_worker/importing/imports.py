"""The imports of a worker: one at a time in its models folder, and the last ones that ended."""

import asyncio
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from infermesh_runtime.importing.models_folder import clear_after_cancel, folder_id, take_network_lock
from infermesh_worker.importing.command import Wanted, import_command, import_environment
from infermesh_worker.importing.import_process import ImportProcess
from infermesh_worker.importing.import_record import ImportRecord, ImportState
from infermesh_worker.importing.removal import check_not_loaded

KEPT = 20
"""How many ended imports are kept."""
INTERVAL_S = 0.5
"""Shortest time between two reports of progress."""

_log = logging.getLogger(__name__)


class Imports:
    """Runs imports. Used from one event loop."""

    def __init__(
        self,
        root: Path,
        home: Path,
        *,
        problem: str,
        holds: Callable[[str], bool],
        rescan: Callable[[], Awaitable[None]],
        on_change: Callable[[], None],
        tasks: TaskSupervisor,
        command: Callable[[Wanted], Sequence[str]] = import_command,
    ) -> None:
        """`problem`: why nothing can be imported; empty if it can. `holds` says whether a model is loaded here.

        `rescan` lists the models folder anew.
        `on_change` is called after each change of what `all` returns; for progress, not too often.
        """
        self.problem = problem
        self.folder_id = folder_id(root)
        self._root = root
        self._home = home
        self._holds = holds
        self._rescan = rescan
        self._on_change = on_change
        self._tasks = tasks
        self._command = command
        self._records: deque[ImportRecord] = deque(maxlen=KEPT + 1)
        self._process: ImportProcess | None = None
        self._task: BackgroundTask | None = None
        self._told_s = float("-inf")
        self._will_tell = False

    @property
    def all(self) -> Sequence[ImportRecord]:
        """The import that runs, and the last that ended, newest first."""
        return tuple(self._records)

    def start(self, wanted: Wanted) -> ImportRecord:
        """Begins an import of what was checked before, and returns its record, which goes on changing.

        Raises FailedPrecondition (such as MODEL_IN_USE), ResourceExhausted (IMPORT_RUNNING) and AlreadyExists.
        """
        if self.problem:
            raise FailedPrecondition(f"This worker cannot import: {self.problem}.", reason="IMPORT_NOT_POSSIBLE")
        if self._process is not None:
            raise _occupied(f"imports '{self._records[0].name}'")
        if wanted.force:
            check_not_loaded(wanted.name, self._holds)
        lock = _lock(self._root, wanted)
        record = ImportRecord(secrets.token_hex(16), wanted.source, wanted.name, datetime.now(UTC))
        environment = import_environment(self._root, self._home)
        self._process = ImportProcess(self._command(wanted), environment, partial(self._note_line, record))
        self._records.appendleft(record)
        self._task = self._tasks.start("import", partial(self._run, record, self._process, lock))
        self._tell()
        return record

    async def cancel(self, import_id: str) -> ImportRecord:
        """Stops an import and waits until nothing of it is left. One that has ended stays as it is. Raises NotFound."""
        record = next((each for each in self._records if each.import_id == import_id), None)
        if record is None:
            raise NotFound("There is no import of this id; it may be too long ago.", reason="IMPORT_NOT_FOUND")
        if record.state is ImportState.RUNNING:
            await self.stop()
        return record

    async def stop(self) -> None:
        """Stops the import that runs, if there is one."""
        if self._process is not None and self._task is not None:
            self._process.stop()
            await self._task.wait()

    async def _run(self, record: ImportRecord, process: ImportProcess, lock: int) -> None:
        state, message = ImportState.FAILED, "the worker stopped"
        try:
            state, message = await self._import(record, process)
        except Exception as error:  # such as no more processes; the task must not import again by itself
            _log.exception("an import failed unexpectedly")
            message = f"{type(error).__name__}: {error}"[:200]
        finally:
            os.close(lock)
            self._process = self._task = None
            record.end(state, message)
            _log.info("import ended", extra={"model": record.name, "state": state.value, "reason": message})
            self._tell()

    async def _import(self, record: ImportRecord, process: ImportProcess) -> tuple[ImportState, str]:
        """Runs the import; returns how it ended, and why it failed."""
        outcome = await process.run()
        if process.stopped:
            await asyncio.to_thread(clear_after_cancel, self._root)
        await self._rescan()  # however it ended: the model may be there all the same
        if outcome.exit_code == 0 or record.published:
            return ImportState.DONE, ""
        if process.stopped:
            return ImportState.CANCELLED, ""
        return ImportState.FAILED, record.problem_of(outcome)

    def _note_line(self, record: ImportRecord, line: bytes) -> None:
        record.note_line(line)
        wait_s = self._told_s + INTERVAL_S - time.monotonic()
        if wait_s <= 0:
            self._tell()
        elif not self._will_tell:
            self._will_tell = True
            self._tasks.call_later("import progress", wait_s, self._tell)

    def _tell(self) -> None:
        self._told_s, self._will_tell = time.monotonic(), False
        self._on_change()


def _lock(root: Path, wanted: Wanted) -> int:
    """Takes the folder's lock. Raises AlreadyExists if the name is taken, and ResourceExhausted if the lock is."""
    if not wanted.force and (root / wanted.name).exists():
        raise AlreadyExists(
            f"There is a model '{wanted.name}' already. Choose another name, or replace it with `force`.",
            reason="MODEL_EXISTS",
            metadata={"model": wanted.name},
        )
    lock = take_network_lock(root)
    if lock is None:
        raise _occupied("shares its models folder with another one, which imports")
    return lock


def _occupied(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"This worker {what}. Wait until that has ended, or cancel it.", reason="IMPORT_RUNNING")
