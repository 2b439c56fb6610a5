"""Merges one stream from each of several sources that come and go."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

Streams = dict[str, AsyncGenerator[bytes, None]]
Coming = dict["asyncio.Task[bytes]", str]


async def merged(
    sources: Callable[[], Iterable[str]],
    changed: Callable[[], asyncio.Event],
    open_stream: Callable[[str], AsyncGenerator[bytes, None]],
) -> AsyncGenerator[bytes, None]:
    """What the streams of all sources yield, as it comes, until it is closed. Raises what one of them raises.

    `sources` are those of now, and the event `changed` gives is set when there are others.
    """
    streams: Streams = {}
    coming: Coming = {}
    waiting = _wait(changed())
    try:
        while True:
            await _follow(set(sources()), streams, coming, open_stream)
            done, _ = await asyncio.wait((*coming, waiting), return_when=asyncio.FIRST_COMPLETED)
            if waiting in done:
                waiting = _wait(changed())
            for task in [each for each in coming if each in done]:
                source = coming.pop(task)
                try:
                    block = task.result()
                except StopAsyncIteration:
                    continue
                coming[_next(streams[source])] = source
                yield block
    finally:
        waiting.cancel()
        await _follow(set(), streams, coming, open_stream)


async def _follow(
    wanted: set[str], streams: Streams, coming: Coming, open_stream: Callable[[str], AsyncGenerator[bytes, None]]
) -> None:
    """Opens the streams that are missing, and closes those that are not wanted."""
    for source in wanted - streams.keys():
        streams[source] = open_stream(source)
        coming[_next(streams[source])] = source
    gone = streams.keys() - wanted
    tasks = [task for task, source in coming.items() if source in gone]
    for task in tasks:
        task.cancel()
        del coming[task]
    await asyncio.gather(*tasks, return_exceptions=True)
    for source in gone:
        await streams.pop(source).aclose()


def _next(stream: AsyncGenerator[bytes, None]) -> "asyncio.Task[bytes]":
    async def take() -> bytes:
        return await anext(stream)

    return asyncio.create_task(take())


def _wait(event: asyncio.Event) -> "asyncio.Task[bool]":
    async def wait() -> bool:
        return await event.wait()

    return asyncio.create_task(wait())
