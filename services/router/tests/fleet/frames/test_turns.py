"""Few calls go on in a round of the event loop, so that a router that is behind reads on and merges what waits."""

import asyncio
from collections.abc import Callable, Iterable

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.frames import faults
from infermesh_router.fleet.frames.frame_call import AT_ONCE, FrameCall
from infermesh_router.fleet.frames.turns import PAUSE_S, Turns

STARTED = pb.GenerateResponse(started=pb.Started(model="m")).SerializeToString()


def token(index: int) -> bytes:
    return pb.GenerateResponse(delta=pb.Delta(text=f"{index} ", token_ids=[index])).SerializeToString()


def texts(messages: list[bytes]) -> list[str]:
    return [pb.GenerateResponse.FromString(message).delta.text for message in messages]


class Readers:
    """Calls that have begun, each with a task that takes its messages as they come."""

    def __init__(self, calls: int, turns: Turns) -> None:
        self.calls = [FrameCall(lambda: None, turns=turns) for _ in range(calls)]
        self.came: list[list[bytes]] = [[] for _ in self.calls]
        self._frames = 0
        self._tasks = [asyncio.ensure_future(self._read(index)) for index in range(calls)]

    async def _read(self, index: int) -> None:
        async for message in self.calls[index]:
            self.came[index].append(message)

    async def begin(self) -> None:
        """Lets every reader take what needs no turn."""
        for call in self.calls:
            for _ in range(AT_ONCE):
                call.put(STARTED)
        await rounds(3)
        for came in self.came:
            assert len(came) == AT_ONCE
            came.clear()

    def put(self, message: bytes) -> None:
        """A frame with this message for every call."""
        self._frames += 1
        for call in self.calls:
            call.put(message, self._frames)

    async def stop(self) -> None:
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until_all_have(readers: Readers, expected: str) -> None:
    async with asyncio.timeout(10):
        while any("".join(texts(came)) != expected for came in readers.came):  # noqa: ASYNC110 - rounds are counted
            await asyncio.sleep(0)


async def test_so_many_calls_go_in_a_round_and_all_in_the_order_in_which_they_asked() -> None:
    readers = Readers(10, Turns(4))
    await readers.begin()
    readers.put(token(1))
    went = []
    for _ in range(4):
        await rounds(1)
        went.append([index for index, came in enumerate(readers.came) if came])
    await readers.stop()
    assert went[-1] == list(range(10))
    assert {len(now) - len(before) for before, now in zip([[], *went], went, strict=False)} <= {0, 2, 4}
    assert went[0] == list(range(4))


async def test_tokens_that_come_while_a_call_waits_for_its_turn_are_one_message() -> None:
    readers = Readers(12, Turns(2))
    await readers.begin()
    for index in range(4):
        readers.put(token(index))
        await rounds(1)
    await until_all_have(readers, "0 1 2 3 ")
    await readers.stop()
    assert texts(readers.came[-1]) == ["0 1 2 3 "]
    assert sum(map(len, readers.came)) < 2 * len(readers.came)


async def test_a_router_that_is_behind_leaves_the_loop_to_reading_between_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    readers = Readers(12, Turns(2, busy_s=0.0))
    await readers.begin()
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def count(delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        pauses.append(delay_s)
        return call_later(delay_s, callback)

    monkeypatch.setattr(loop, "call_later", count)
    readers.put(token(0))
    await until_all_have(readers, "0 ")
    assert pauses == []
    readers.put(token(1))
    readers.put(token(2))
    await until_all_have(readers, "0 1 2 ")
    assert set(pauses) == {PAUSE_S}
    assert (paused := len(pauses)) in (4, 5)
    readers.put(token(3))
    await until_all_have(readers, "0 1 2 3 ")
    assert len(pauses) == paused
    monkeypatch.undo()
    await readers.stop()


async def test_a_router_that_keeps_up_sends_each_token_by_itself() -> None:
    readers = Readers(12, Turns(2))
    await readers.begin()
    for index in range(4):
        readers.put(token(index))
        await rounds(10)
    await readers.stop()
    assert [texts(came) for came in readers.came] == [["0 ", "1 ", "2 ", "3 "]] * 12


async def test_the_first_token_waits_for_no_turn() -> None:
    turns = Turns(1)
    readers = Readers(50, turns)
    await readers.begin()
    readers.put(token(1))
    new = FrameCall(lambda: None, turns=turns)
    reading = asyncio.ensure_future(anext(new))
    await rounds(1)
    new.put(STARTED)
    new.put(token(2))
    assert await reading == STARTED
    assert await anext(new) == token(2)
    assert sum(map(len, readers.came)) < 10
    await readers.stop()


async def test_what_waits_is_taken_at_once_when_the_call_ends() -> None:
    turns = Turns(1)
    readers = Readers(50, turns)
    await readers.begin()
    readers.put(token(1))
    last = readers.calls[-1]
    last.end(faults.complete)
    await rounds(2)
    assert texts(readers.came[-1]) == ["1 "]
    await readers.stop()


async def test_a_call_that_is_cancelled_while_it_waits_takes_no_turn_from_others() -> None:
    readers = Readers(9, Turns(1))
    await readers.begin()
    readers.put(token(1))
    for call in readers.calls[1:8]:
        call.cancel()
    await rounds(4)
    assert texts(readers.came[8]) == ["1 "]
    assert readers.came[1:8] == [[]] * 7
    await readers.stop()


async def test_the_tokens_of_one_frame_stay_as_they_came() -> None:
    call = FrameCall(lambda: None)
    for message in (STARTED, *map(token, range(5))):
        call.put(message, 1)
    call.end(faults.complete)
    assert texts([message async for message in call]) == ["", "0 ", "1 ", "2 ", "3 ", "4 "]


@pytest.mark.parametrize("choices", [4, 8])
async def test_what_cannot_be_merged_is_not_tried_again_for_each_message(
    choices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[int] = []

    def merge(messages: Iterable[bytes]) -> list[bytes]:
        merged.append(1)
        return list(messages)

    monkeypatch.setattr("infermesh_router.fleet.frames.frame_call.merge_deltas", merge)
    call = FrameCall(lambda: None)
    for frame in range(100):
        for choice in range(choices):
            call.put(pb.GenerateResponse(delta=pb.Delta(choice=choice, text="a")).SerializeToString(), frame)
        for _ in range(choices if frame else AT_ONCE):  # from then on it is behind by most of a frame
            await anext(call)
    assert 1 <= len(merged) <= 3
