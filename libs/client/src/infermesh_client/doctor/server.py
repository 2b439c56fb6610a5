"""Sends requests to the server that is looked at, and reads each answer to its end, within bounds of time."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from infermesh_client.doctor.dialects import Dialect, dialect_of, is_streamed
from infermesh_client.doctor.reading import TooLargeError, events, read_content
from infermesh_client.doctor.reply import Reply, event_error, read_error
from infermesh_client.told import connection_problem, shown
from infermesh_runtime.errors import NotFound, Unauthenticated, Unavailable

_DONE = "[DONE]"
_MODELS = "/v1/models"
_GENERATE = "generate"
"""The kind that our routers tell of models that generate text; others tell none."""
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)
_VERSION_PREFIX = "/v1"


class Unreachable(Unavailable):
    """Nothing answers at the URL."""

    reason = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class Server:
    """A server with APIs like OpenAI's."""

    client: httpx.Client
    url: str
    """Its base URL, with /v1 or without."""
    timeout_s: float
    """How long one answer may take."""
    key: str = ""

    @property
    def shown_url(self) -> str:
        """The URL without the password that it may have."""
        return re.sub(r"//[^/@]*@", "//", self.url)

    def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """What the server answers. Raises Unreachable, and Unauthenticated if the key is not what it wants."""
        dialect = dialect_of(path)
        deadline_s = time.monotonic() + self.timeout_s
        try:
            with self._answer(method, path, body, headers or {}) as response:
                reply = _read(response, dialect, body, deadline_s)
        except _NO_CONNECTION as error:
            raise self._unreachable(error) from error
        except (httpx.TimeoutException, TimeoutError):
            reply = Reply(problem=f"no whole answer within {self.timeout_s:g} s")
        except TooLargeError as error:
            reply = Reply(problem=str(error))
        except httpx.HTTPError as error:
            reply = Reply(problem=f"the connection broke: {error}")
        reply = replace(reply, message=shown(reply.message, self.key), problem=shown(reply.problem, self.key))
        if reply.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._unauthenticated(reply.describe())
        return reply

    def default_model(self) -> str:
        """The model to ask: the first that is loaded, or else the first; of those that generate text, where it is told.

        Raises Unreachable, Unauthenticated, and NotFound if the server lists no models.
        """
        deadline_s = time.monotonic() + self.timeout_s
        try:
            with self._answer("GET", _MODELS, None, {}) as answer:
                if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                    raise self._unauthenticated(str(answer.status_code))
                models = json.loads(read_content(answer, deadline_s))["data"]
            listed = [model for model in models if isinstance(model["id"], str)]
        except _NO_CONNECTION as error:
            raise self._unreachable(error) from error
        except (httpx.HTTPError, TimeoutError, TooLargeError, ValueError, KeyError, TypeError, RecursionError):
            listed = []
        if not listed:
            raise NotFound(f"{self.shown_url} lists no models at {_MODELS}; --model NAME says which one to ask")
        generating = [model for model in listed if model.get("kind", _GENERATE) == _GENERATE] or listed
        loaded = [model for model in generating if model.get("loaded")]
        return str((loaded or generating)[0]["id"])

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        """The answer, whose body is not read yet."""
        response = self.client.send(self._request(method, path, body, headers), stream=True)
        try:
            yield response
        finally:
            response.close()

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> httpx.Request:
        base = self.url.rstrip("/")
        if path.startswith(f"{_VERSION_PREFIX}/"):
            base = base.removesuffix(_VERSION_PREFIX)
        own = {"authorization": f"Bearer {self.key}"} if self.key else {}
        if self.key and "anthropic-version" in headers:
            own = {"x-api-key": self.key}
        content = None if body is None else json.dumps(body).encode()
        kind = {"accept-encoding": "identity"} | ({} if body is None else {"content-type": "application/json"})
        return self.client.build_request(
            method, base + path, content=content, headers={**headers, **kind, **own}, timeout=self.timeout_s
        )

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"nothing answers at {self.shown_url}: {shown(connection_problem(error), self.key)}")

    def _unauthenticated(self, reason: str) -> Unauthenticated:
        hint = "--api-key-file FILE gives another one" if self.key else "--api-key-file FILE gives one"
        return Unauthenticated(f"{self.shown_url} wants another API key ({reason}); {hint}")


def _read(response: httpx.Response, dialect: Dialect, body: Mapping[str, Any] | None, deadline_s: float) -> Reply:
    headers = dict(response.headers)
    if response.is_success and body is not None and is_streamed(body, dialect):
        return _read_stream(response, dialect, headers, deadline_s)
    content = read_content(response, deadline_s)
    if not response.is_success:
        return read_error(response.status_code, headers, content)
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return Reply(response.status_code, headers, problem="the answer is not JSON")
    return Reply(response.status_code, headers)


def _read_stream(response: httpx.Response, dialect: Dialect, headers: Mapping[str, str], deadline_s: float) -> Reply:
    reply = Reply(response.status_code, headers)
    ended = False
    for data in events(response, deadline_s):
        if data == _DONE:
            ended = ended or dialect.ends is None
            continue
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            return replace(reply, problem="an event of the stream is no JSON object")
        if error := event_error(event):
            return replace(reply, problem=f"the stream ended with an error: {error}")
        if event.get("usage") and not reply.has_usage:
            reply = replace(reply, has_usage=True)
        ended = ended or (dialect.ends is not None and dialect.ends(event))
    return reply if ended else replace(reply, problem="the stream broke off before its end")
