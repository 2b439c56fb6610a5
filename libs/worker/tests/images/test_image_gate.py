"""Images are decoded beside the engine's steps, within a bound of memory, and errors name their place."""

import queue
import threading
from collections.abc import Iterator

import pytest

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import InfermeshError, Internal, InvalidArgument
from infermesh_worker.images.gate import ImageGate
from infermesh_worker.images.prepared import PreparedImage

SIZE = 60


def request(request_id: str, *files: bytes) -> GenerationRequest:
    images = tuple(
        PromptImage(data=data, digest=data, spans=((place, place + 1),), field=f"parts[{place}]")
        for place, data in enumerate(files)
    )
    return GenerationRequest(request_id=request_id, prompt_token_ids=tuple(range(9)), seed=1, images=images, n=2)


class Desk:
    """A gate with room for two images, and what it has done."""

    def __init__(self) -> None:
        self.rung: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.began: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.may_end = threading.Semaphore(0)
        self.gate = ImageGate(self._prepare, lambda: self.rung.put(None), max_bytes=2 * SIZE)

    def _prepare(self, image: PromptImage) -> PreparedImage:
        self.began.put(image.data)
        self.may_end.acquire(timeout=30)
        if image.data == b"bad":
            raise InvalidArgument("cannot be read")
        if image.data == b"bug":
            raise ZeroDivisionError
        return PreparedImage({"image": image.data}, SIZE)

    def released(self) -> list[tuple[GenerationRequest, InfermeshError | None]]:
        self.rung.get(timeout=30)
        return list(self.gate.released())


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.may_end.release(100)
    made.gate.close()


def test_a_request_without_images_passes(desk: Desk) -> None:
    assert not desk.gate.hold(request("a"))


def test_a_request_waits_until_all_its_images_are_decoded(desk: Desk) -> None:
    assert desk.gate.hold(request("a", b"x", b"y"))
    assert desk.gate.waiting == 2
    assert list(desk.gate.released()) == []
    desk.may_end.release(2)
    ((done, error),) = desk.released()
    assert error is None
    assert desk.gate.waiting == 0
    assert [image.pixels.tensors["image"] for image in done.images] == [b"x", b"y"]
    assert not desk.gate.hold(done)


@pytest.mark.parametrize(("file", "kind"), [(b"bad", InvalidArgument), (b"bug", Internal)])
def test_an_image_that_cannot_be_decoded_fails_its_request_alone(
    desk: Desk, file: bytes, kind: type[InfermeshError]
) -> None:
    desk.may_end.release(10)
    desk.gate.hold(request("a", b"x", file))
    ((_, error),) = desk.released()
    assert isinstance(error, kind)
    assert kind is Internal or error.fields == {"parts[1]": "cannot be read"}
    desk.gate.hold(request("b", b"x"))
    assert desk.released()[0][1] is None


def test_a_cancelled_request_is_neither_decoded_nor_given_back(desk: Desk) -> None:
    for name in "abc":
        desk.gate.hold(request(name, name.encode()))
    assert desk.began.get(timeout=30) == b"a"
    desk.gate.cancel("a")
    desk.gate.cancel("b")
    desk.may_end.release()
    assert desk.released() == []
    desk.may_end.release()
    assert [done.request_id for done, _ in desk.released()] == ["c"]
    assert desk.began.get(timeout=30) == b"c"


def test_images_that_nobody_needs_make_room(desk: Desk) -> None:
    desk.may_end.release(10)
    desk.gate.hold(request("a", b"x", b"y"))
    released = desk.released()
    desk.gate.hold(request("b", b"z"))
    assert [desk.began.get(timeout=30) for _ in range(2)] == [b"x", b"y"]
    with pytest.raises(queue.Empty):
        desk.began.get(timeout=0.05)  # all room is taken
    del released
    assert desk.began.get(timeout=30) == b"z"
