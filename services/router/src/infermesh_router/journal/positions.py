"""How far a listener has come in the events of each router: what the ids of server-sent events say."""

import re
from collections.abc import Mapping

_MOST_ROUTERS = 16
_LONGEST = 1024
_ONE = re.compile(r"([0-9a-z]{1,32})-([0-9]{1,15})")
_ID_LINE = b"id: "
"""Events are lines of which only this one begins so: their data is JSON in one line."""

Positions = Mapping[str, int]
"""Name of a router's journal → number of the first of its events that the listener has not had."""


def read_positions(event_id: str) -> dict[str, int]:
    """What an id says; nothing for one that is none of ours."""
    if len(event_id) > _LONGEST:
        return {}
    found = [_ONE.fullmatch(each) for each in event_id.split(",")]
    return {each[1]: int(each[2]) for each in found[-_MOST_ROUTERS:] if each}


def write_positions(positions: Positions) -> str:
    """The id that says this."""
    return ",".join(f"{name}-{number}" for name, number in positions.items())


def mark_all(block: bytes, positions: dict[str, int]) -> bytes:
    """The same events, with ids that say how far the listener has come with all routers. Moves `positions` on."""

    parts, at = [], 0  # a snapshot is large, and is marked for each listener: searching a byte is quick
    while (start := _find_id(block, at)) >= 0:
        end = block.index(b"\n", start)
        parts += [block[at:start], _move(positions, block[start:end].decode()).encode()]
        at = end
    return b"".join((*parts, block[at:]))


def _find_id(block: bytes, at: int) -> int:
    """Where the next id is, from the line on that begins at `at`; -1: nowhere."""
    while not block.startswith(_ID_LINE, at):
        at = block.find(b"\n", at) + 1
        if at == 0:
            return -1
    return at + len(_ID_LINE)


def _move(positions: dict[str, int], event_id: str) -> str:
    """Moves on to where one router's id says; returns the id that tells of all."""
    for name, number in read_positions(event_id).items():
        positions.pop(name, None)
        positions[name] = number  # the one that was heard last is the last
    while len(positions) > _MOST_ROUTERS:
        del positions[next(iter(positions))]
    return write_positions(positions)
