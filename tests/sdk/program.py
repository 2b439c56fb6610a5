"""A program of a user of the SDK: asks the mesh at argv[1] with both clients, and prints what they say."""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from infermesh_client import AsyncClient, ChatMessage, Client, SmartAnswer, smart_chat, smart_chat_sync
from infermesh_runtime.errors import InvalidArgument

ADDRESS = sys.argv[1]
QUESTION: list[ChatMessage] = [{"role": "user", "content": "Name three rivers."}]


@dataclass
class Place:
    city: str
    country: str | None = None


def weather(place: Place, unit: Literal["c", "f"] = "c") -> dict[str, object]:
    """Says how warm it is somewhere."""
    return {"place": place, "unit": unit}


def ask() -> SmartAnswer:
    with Client(ADDRESS, timeout_s=60) as client:
        return smart_chat_sync("", QUESTION, device="cpu", client=client, temperature=0, max_tokens=8)


async def ask_in_turn() -> SmartAnswer:
    async with AsyncClient(ADDRESS, timeout_s=60) as client:
        with suppress(InvalidArgument):  # the template of the tests' model takes no tools
            await smart_chat("", QUESTION, tools=[weather], client=client, max_tokens=8)
        return await smart_chat("", QUESTION, client=client, temperature=0, max_tokens=8)


answers = [ask(), asyncio.run(ask_in_turn())]
assert all(answer.timings.ttft_s > 0 and answer.reason for answer in answers)
print(json.dumps([[answer.text, answer.device] for answer in answers]))
