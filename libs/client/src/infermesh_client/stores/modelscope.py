"""Lists and downloads a model's files from ModelScope, or from the server in MODELSCOPE_ENDPOINT."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from infermesh_client.stores.beginning import read_beginning
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, NotFound, Unavailable

DEFAULT_ENDPOINT, DEFAULT_REVISION = "https://modelscope.cn", "master"
COMMIT_DIGITS = 40
_TIMEOUT_S, _TRIES = 30.0, 5


class Step(Protocol):
    """Told how many more bytes have arrived."""

    def advance(self, amount: float, /) -> None: ...


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository."""

    size_bytes: int
    sha256: str
    """Empty where the server does not say."""


class ModelScope:
    """One repository at one revision. Use it as a context manager."""

    def __init__(self, repository: str, revision: str | None) -> None:
        """The token in MODELSCOPE_API_TOKEN, if there is one, opens private repositories."""
        self.endpoint = os.environ.get("MODELSCOPE_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
        self._base = f"{self.endpoint}/api/v1/models/{quote(repository)}/repo"
        self._revision = revision or DEFAULT_REVISION
        self._where = f"{repository} at {self.endpoint}"
        self.commit = ""
        """The commit of the revision, once `files` was called; its first digits if the server tells no more."""
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True, headers=headers)

    def __enter__(self) -> "ModelScope":
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def files(self) -> Mapping[str, RemoteFile]:
        """The files of the repository by path. Raises NotFound, FailedPrecondition or Unavailable."""
        try:
            answer = self._http.get(f"{self._base}/files", params={"Revision": self._revision, "Recursive": "true"})
            self._check(answer)
            data: dict[str, Any] = answer.json()["Data"]
            listed: list[dict[str, Any]] = data["Files"]
            latest = data.get("LatestCommitter") or {}
            self.commit = str(latest.get("Id") or latest.get("ShortId") or "")
            return {
                str(entry["Path"]): RemoteFile(int(entry["Size"]), str(entry.get("Sha256") or ""))
                for entry in listed
                if entry.get("Type") == "blob"
            }
        except httpx.HTTPError as error:
            raise Unavailable(f"listing {self._where} failed: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{self._where} answers what is not a list of files: {error!r}") from error

    def download(self, name: str, file: RemoteFile, target: Path, step: Step) -> None:
        """Downloads one file; goes on where an earlier try ended. Raises InfermeshError or OSError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        begin = part.stat().st_size if part.is_file() else 0
        step.advance(begin)
        for attempt in range(1, _TRIES + 1):
            try:
                self._go_on(name, file, part, step)
                break
            except httpx.HTTPError as error:
                if attempt == _TRIES:
                    raise Unavailable(f"downloading {name} of {self._where} failed: {error}") from error
        self._check_content(name, file, part)
        part.replace(target)

    def beginning(self, name: str, size_bytes: int) -> bytes:
        """The first bytes of a file, at least `size_bytes` if it has so many. Raises InfermeshError."""
        params = {"Revision": self._revision, "FilePath": name}
        try:
            return read_beginning(self._http, self._base, params, {}, size_bytes)
        except httpx.HTTPStatusError as error:
            raise self._explain(error.response.status_code) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"reading {name} of {self._where} failed: {error}") from error

    def _go_on(self, name: str, file: RemoteFile, part: Path, step: Step) -> None:
        begin = part.stat().st_size if part.is_file() else 0
        if begin >= file.size_bytes > 0:
            return
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        params = {"Revision": self._revision, "FilePath": name}
        with self._http.stream("GET", self._base, params=params, headers=headers) as answer:
            self._check(answer)
            with part.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as out:
                for chunk in answer.iter_bytes():
                    out.write(chunk)
                    step.advance(len(chunk))

    def _check_content(self, name: str, file: RemoteFile, part: Path) -> None:
        size = part.stat().st_size
        if size == file.size_bytes and (not file.sha256 or _sha256(part) == file.sha256):
            return
        part.unlink()
        raise Unavailable(f"{name} of {self._where} is damaged ({size} of {file.size_bytes} bytes); import it again")

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        raise self._explain(answer.status_code)

    def _explain(self, status: int) -> InfermeshError:
        if status == httpx.codes.NOT_FOUND:
            return NotFound(f"{self._where} does not exist, or has no revision {self._revision!r}")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return FailedPrecondition(
                f"access to {self._where} was refused; set MODELSCOPE_API_TOKEN to a token with access",
                reason="MODEL_GATED",
            )
        return Unavailable(f"{self._where} answered {status}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
