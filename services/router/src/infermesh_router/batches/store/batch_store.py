"""The store of files and batches as the event loop sees it: one thread does the work. There may also be none."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from infermesh_router.batches.store.batches import Batches
from infermesh_router.batches.store.database import Database
from infermesh_router.batches.store.files import Files
from infermesh_router.batches.store.kept import StoreBounds
from infermesh_runtime.errors import FailedPrecondition, Unavailable

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


class BatchStore:
    """Runs methods of `Files` and `Batches` on a database, which the first call opens."""

    def __init__(self, path: Path | None, bounds: StoreBounds, *, why_not: str = "") -> None:
        """`path`: None keeps nothing, and `why_not` says why."""
        self._path = path
        self._bounds = bounds
        self._why_not = why_not
        self._database: Database | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")

    @property
    def has_file(self) -> bool:
        """Whether there is a file, so that batches may have to go on."""
        return self._path is not None and self._path.exists()

    async def files(
        self,
        method: Callable[Concatenate[Files, ArgumentsT], ResultT],
        *arguments: ArgumentsT.args,
        **named: ArgumentsT.kwargs,
    ) -> ResultT:
        """Calls a method of `Files`. Raises what it raises, FailedPrecondition and Unavailable."""
        return await self._run(lambda database: method(Files(database), *arguments, **named))

    async def batches(
        self,
        method: Callable[Concatenate[Batches, ArgumentsT], ResultT],
        *arguments: ArgumentsT.args,
        **named: ArgumentsT.kwargs,
    ) -> ResultT:
        """Calls a method of `Batches`. Raises what it raises, FailedPrecondition and Unavailable."""
        return await self._run(lambda database: method(Batches(database), *arguments, **named))

    async def close(self) -> None:
        """Closes the file after the calls that are running."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._database is not None:
            self._database.close()

    async def _run(self, call: Callable[[Database], ResultT]) -> ResultT:
        path = self._path
        if path is None:
            raise FailedPrecondition(f"This router keeps no files. {self._why_not}", reason="FILES_NOT_KEPT")

        def opened() -> ResultT:
            try:
                if self._database is None:
                    self._database = Database(path, self._bounds)
                return call(self._database)
            except (sqlite3.Error, OSError) as error:
                raise Unavailable(f"The file {path} cannot be used: {error}.", reason="FILES_UNAVAILABLE") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, opened)
