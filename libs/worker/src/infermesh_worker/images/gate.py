"""Decodes the images of requests in a thread beside the engine's steps, before the requests reach the engine."""

import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import InfermeshError, Internal, InvalidArgument
from infermesh_worker.images.prepared import PreparedImage

MAX_PREPARED_BYTES = 1 << 30
"""Prepared images of requests that the engine has not computed yet may take this much before others must wait. The
images of one more request are added to it."""

_log = logging.getLogger(__name__)


class ImageGate:
    """Requests whose images are being decoded, in the order in which they came."""

    def __init__(
        self,
        prepare: Callable[[PromptImage], PreparedImage],
        on_done: Callable[[], None],
        *,
        max_bytes: int = MAX_PREPARED_BYTES,
    ) -> None:
        """`prepare` is called in the gate's own thread, as is `on_done` after each request. Call `close` at the end."""
        self._prepare = prepare
        self._on_done = on_done
        self._room = _Room(max_bytes)
        self._held: dict[str, GenerationRequest] = {}
        self._asked: queue.SimpleQueue[GenerationRequest | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[GenerationRequest, InfermeshError | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return sum(request.n for request in self._held.values())

    def hold(self, request: GenerationRequest) -> bool:
        if all(image.pixels is not None for image in request.images):
            return False
        self._held[request.request_id] = request
        self._asked.put(request)
        return True

    def cancel(self, request_id: str) -> None:
        self._held.pop(request_id, None)

    def released(self) -> Iterator[tuple[GenerationRequest, InfermeshError | None]]:
        while not self._done.empty():
            request, error = self._done.get()
            if self._held.pop(request.request_id, None) is not None:
                yield request, error

    def close(self) -> None:
        """Ends the thread. What waits is forgotten."""
        self._held.clear()
        self._asked.put(None)
        self._room.open()
        self._thread.join()

    def _run(self) -> None:
        while (request := self._asked.get()) is not None:
            if request.request_id not in self._held:
                continue  # cancelled
            self._room.wait()
            self._done.put(self._outcome(request))
            self._on_done()

    def _outcome(self, request: GenerationRequest) -> tuple[GenerationRequest, InfermeshError | None]:
        try:
            return replace(request, images=tuple(self._prepared(image) for image in request.images)), None
        except InfermeshError as error:
            return request, error

    def _prepared(self, image: PromptImage) -> PromptImage:
        try:
            prepared = self._prepare(image)
        except InvalidArgument as error:
            problem = f"{image.field}: {error.message}" if image.field else error.message
            raise InvalidArgument(problem, fields={image.field: error.message} if image.field else {}) from error
        except Exception as error:  # a bug that one image triggers must not end the gate
            _log.exception("could not prepare an image")
            raise Internal("Internal error while an image was decoded.") from error
        self._room.take(prepared)
        return replace(image, pixels=prepared)


class _Room:
    """How much memory prepared images take, until the last reference to each is gone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._taken = 0

    def take(self, prepared: PreparedImage) -> None:
        with self._changed:
            self._taken += prepared.size_bytes
        weakref.finalize(prepared, self._give_back, prepared.size_bytes)

    def wait(self) -> None:
        """Waits until less than the most is taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._max_bytes)

    def open(self) -> None:
        """Lets everybody pass from now on."""
        with self._changed:
            self._taken -= 1 << 62
            self._changed.notify_all()

    def _give_back(self, size_bytes: int) -> None:
        with self._changed:
            self._taken -= size_bytes
            self._changed.notify_all()
