"""Follows the file of API keys, so that a new or revoked key counts within about a second."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from infermesh_router.access.keyring import Keyring
from infermesh_runtime.api_keys import read_keys
from infermesh_runtime.errors import FailedPrecondition

_log = logging.getLogger(__name__)


class FollowedKeys:
    """The keys in force: `keyring`, None while requests need no key.

    Once there was a file, keys are needed for the rest of the router's life: a file that is deleted or that cannot be
    read leaves the last keys in force. So no accident opens a mesh.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        required: bool = False,
        interval_s: float = 1.0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Without a path, no key is ever needed. `required`: the file must be there at the start."""
        self.keyring: Keyring | None = None
        self._path = path
        self._required = required
        self._interval_s = interval_s
        self._now_s = now_s
        self._seen: tuple[int, int, int] | None = None

    async def load(self) -> None:
        """Reads the file. Raises FailedPrecondition if it cannot be used, or is missing though it is required."""
        if self._path is None:
            return
        try:
            await self._read(self._path)
        except FileNotFoundError:
            if self._required:
                raise FailedPrecondition(
                    f"There is no file of API keys {self._path} (INFERMESH_KEYS_FILE). `infermesh keys create NAME` "
                    "makes it.",
                    reason="BAD_KEYS_FILE",
                ) from None

    async def run(self) -> None:
        """Reads the file again after each change, until cancelled."""
        if self._path is None:
            return
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._read(self._path)
            except FileNotFoundError:
                if self._seen is not None:
                    self._seen = None
                    _log.error("the file of API keys %s is gone; the last keys stay in force", self._path)
            except FailedPrecondition as error:
                _log.error("%s The last keys stay in force", error.message)

    async def _read(self, path: Path) -> None:
        """Reads the file if it is not the one that was read last."""
        seen = await asyncio.to_thread(_identify, path)
        if seen == self._seen:
            return
        self._seen = seen  # first, so that a bad file is told once
        keys = await asyncio.to_thread(read_keys, path)
        self.keyring = Keyring(keys, now_s=self._now_s)
        _log.info("requests need an API key", extra={"path": str(path), "keys": len(keys)})


def _identify(path: Path) -> tuple[int, int, int]:
    """What changes when the file is edited or replaced. Raises FileNotFoundError, and FailedPrecondition."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FailedPrecondition(
            f"Bad file of API keys {path}: it cannot be read: {error.strerror or error}.", reason="BAD_KEYS_FILE"
        ) from None
    return status.st_mtime_ns, status.st_size, status.st_ino
