"""The store of responses as the event loop sees it: one thread does the work. It may also be that nothing is kept."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from infermesh_router.responses.store.kept import KeptResponse, Page, StoreBounds
from infermesh_router.responses.store.response_file import ResponseFile
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, Unavailable

_log = logging.getLogger(__name__)

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


class ResponseStore:
    """Keeps responses in a file, which the first call opens. Except for `put`, its methods raise NotFound; and
    FailedPrecondition if nothing is kept, Unavailable if the file cannot be used."""

    def __init__(self, path: Path | None, bounds: StoreBounds, *, why_not: str = "") -> None:
        """`path`: None keeps nothing, and `why_not` says why."""
        self._path = path
        self._bounds = bounds
        self._why_not = why_not
        self._file: ResponseFile | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="responses")

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._path is not None

    def check(self, field: str) -> None:
        """Raises FailedPrecondition if nothing is kept, for the field of the request that needs it."""
        if self._path is None:
            raise FailedPrecondition(
                f"'{field}' needs a router that keeps responses. {self._why_not}",
                reason="RESPONSES_NOT_KEPT",
                fields={field: "needs a router that keeps responses"},
            )

    async def put(self, response: KeptResponse) -> None:
        """Keeps a response. A failure is logged only: the response was made all the same."""
        try:
            await self._run(ResponseFile.put, response)
        except InfermeshError as error:
            _log.warning("a response is not kept: %s", error.message)

    async def get(self, owner: str, response_id: str) -> bytes:
        """See `ResponseFile.get`."""
        return await self._run(ResponseFile.get, owner, response_id)

    async def delete(self, owner: str, response_id: str) -> None:
        """See `ResponseFile.delete`."""
        await self._run(ResponseFile.delete, owner, response_id)

    async def context(self, owner: str, response_id: str) -> tuple[bytes, ...]:
        """See `ResponseFile.context`."""
        return await self._run(ResponseFile.context, owner, response_id)

    async def item(self, owner: str, item_id: str) -> bytes:
        """See `ResponseFile.item`."""
        return await self._run(ResponseFile.item, owner, item_id)

    async def input_items(self, owner: str, response_id: str, *, after: str, limit: int, newest_first: bool) -> Page:
        """See `ResponseFile.input_items`."""
        return await self._run(
            ResponseFile.input_items, owner, response_id, after=after, limit=limit, newest_first=newest_first
        )

    async def close(self) -> None:
        """Closes the file after the calls that are running."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._file is not None:
            self._file.close()

    async def _run(
        self,
        method: Callable[Concatenate[ResponseFile, ArgumentsT], ResultT],
        *arguments: ArgumentsT.args,
        **named: ArgumentsT.kwargs,
    ) -> ResultT:
        if self._path is None:
            raise FailedPrecondition(f"This router keeps no responses. {self._why_not}", reason="RESPONSES_NOT_KEPT")
        path = self._path

        def call() -> ResultT:
            try:
                if self._file is None:
                    self._file = ResponseFile(path, self._bounds)
                return method(self._file, *arguments, **named)
            except (sqlite3.Error, OSError) as error:
                raise Unavailable(
                    f"The file of responses {path} cannot be used: {error}.", reason="RESPONSES_UNAVAILABLE"
                ) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
