"""`smart_chat` and its synchronous twin: the answer and who gave it, and loops of calls of plain Python functions."""

import asyncio
import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client import AsyncClient, Client, SmartAnswer, smart_chat, smart_chat_sync
from infermesh_client.smart.functions import read_functions
from infermesh_runtime.answer_parsing.parts import Part, Text
from infermesh_runtime.errors import DeadlineExceeded, InvalidArgument
from libs.client.tests.conftest import RunningMesh


def weather(
    city: str, unit: Annotated[Literal["c", "f"], Field(description="Of the temperature.")] = "c"
) -> dict[str, Any]:
    """Says how warm it is in a city."""
    if city == "Atlantis":
        raise KeyError(city)
    return {"city": city, "unit": unit}


async def slow_weather(city: str) -> str:
    """Says how warm it is, after a while."""
    await asyncio.sleep(0)
    return f"warm in {city}"


def a_call(name: str, **arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


Ask = Callable[..., SmartAnswer]
"""Asks the scripted mesh for what it should answer, in order; by one of the clients."""


@pytest.fixture(params=["async", "sync"])
def ask(request: pytest.FixtureRequest, mesh: RunningMesh) -> Ask:
    mesh.servicer.style = pb.AnswerStyle(tool_format="hermes")

    async def in_turn(**options: Any) -> SmartAnswer:
        async with AsyncClient(mesh.address) as client:
            return await smart_chat("tiny", "How warm is it?", client=client, **options)

    def run(*answers: str, **options: Any) -> SmartAnswer:
        mesh.servicer.answers = list(answers)
        if request.param == "async":
            return asyncio.run(in_turn(**options))
        with Client(mesh.address) as client:
            return smart_chat_sync("tiny", "How warm is it?", client=client, **options)

    return run


def told(mesh: RunningMesh) -> list[str]:
    """What the last request tells the model about its calls."""
    return [message.content for message in mesh.servicer.requests[-1].chat.messages if message.role == "tool"]


def test_an_answer_says_who_gave_it_and_how_fast(ask: Ask, mesh: RunningMesh) -> None:
    parts: list[Part] = []
    answer = ask("It is warm.", temperature=0, on_part=parts.append)
    assert (answer.text, answer.model, answer.device, answer.endpoint) == ("It is warm.", "tiny", "cpu", "10.0.0.1:7")
    assert (answer.finish_reason, answer.calls) == ("stop", ())
    assert 0 < answer.timings.ttft_s <= answer.timings.total_s
    assert "".join(part.text for part in parts if isinstance(part, Text)) == "It is warm."
    assert [message["role"] for message in answer.messages] == ["user", "assistant"]
    (request,) = mesh.servicer.requests
    assert (request.model, request.device, request.sampling.temperature) == ("tiny", "", 0)


def test_functions_are_called_until_the_model_answers(ask: Ask, mesh: RunningMesh) -> None:
    answer = ask(a_call("weather", city="Rome") + a_call("weather", city="Bari", unit="f"), "Warm.", tools=[weather])
    assert answer.text == "Warm."
    assert [json.loads(text) for text in told(mesh)] == [{"city": "Rome", "unit": "c"}, {"city": "Bari", "unit": "f"}]
    assert [(call.name, call.failed) for call in answer.calls] == [("weather", False)] * 2
    assert [message["role"] for message in answer.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    (offered,) = mesh.servicer.requests[0].chat.tools
    schema = json.loads(offered.parameters_json)
    assert (offered.name, offered.description) == ("weather", "Says how warm it is in a city.")
    assert (schema["required"], schema["properties"]["unit"]["description"]) == (["city"], "Of the temperature.")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (a_call("weather", city="Atlantis"), "error: KeyError: 'Atlantis'"),
        (a_call("weather"), "error: city: Missing required argument"),
        (a_call("weather", city="Rome", unit="k"), "error: unit: Input should be 'c' or 'f'"),
        (a_call("wether", city="Rome"), "error: LookupError: there is no function 'wether'"),
    ],
)
def test_the_model_is_told_what_went_wrong(ask: Ask, mesh: RunningMesh, call: str, error: str) -> None:
    answer = ask(call, "Sorry.", tools=[weather])
    assert (answer.text, told(mesh)) == ("Sorry.", [error])
    assert answer.calls[0].failed


def gives_bytes() -> bytes:
    return b"\xff"


def gives_a_circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def gives_a_strange_name() -> str:
    return os.fsdecode(b"a\xff")


def fails_strangely() -> None:
    raise ValueError(os.fsdecode(b"a\xff"))


@pytest.mark.parametrize(
    ("tool", "said", "failed"),
    [
        (gives_bytes, "invalid utf-8", True),
        (gives_a_circle, "Circular reference", True),
        (gives_a_strange_name, r"a\udcff", False),
        (fails_strangely, r"error: ValueError: a\udcff", True),
    ],
)
def test_a_result_of_any_kind_is_told(
    ask: Ask, mesh: RunningMesh, tool: Callable[[], object], said: str, failed: bool
) -> None:
    answer = ask(a_call(tool.__name__), "Sorry.", tools=[tool])
    (text,) = told(mesh)
    assert (answer.text, answer.calls[0].failed) == ("Sorry.", failed)
    assert text.startswith("error: ") == failed
    assert said in text


@functools.wraps(slow_weather)
def weather_at_once(city: str) -> str:
    """Makes a coroutine function one that is none."""
    return asyncio.run(slow_weather(city))


def test_a_function_that_wraps_a_coroutine_function_is_called(ask: Ask, mesh: RunningMesh) -> None:
    answer = ask(a_call("slow_weather", city="Rome"), "Warm.", tools=[weather_at_once])
    assert (answer.text, told(mesh)) == ("Warm.", ["warm in Rome"])


@functools.wraps(slow_weather)
def weather_by_another(city: str) -> Any:
    """Gives the coroutine of a coroutine function, as decorators do; `inspect` sees no coroutine function."""
    return slow_weather(city)


async def test_a_coroutine_that_a_function_gives_is_awaited(mesh: RunningMesh) -> None:
    mesh.servicer.style = pb.AnswerStyle(tool_format="hermes")
    mesh.servicer.answers = [a_call("slow_weather", city="Rome"), "Warm."]
    async with AsyncClient(mesh.address) as client:
        await smart_chat("tiny", "How warm is it?", client=client, tools=[weather_by_another])
    assert told(mesh) == ["warm in Rome"]


def test_without_coroutines_a_coroutine_that_a_function_gives_is_an_error(mesh: RunningMesh) -> None:
    mesh.servicer.style = pb.AnswerStyle(tool_format="hermes")
    mesh.servicer.answers = [a_call("slow_weather", city="Rome"), "Sorry."]
    with Client(mesh.address) as client:
        answer = smart_chat_sync("tiny", "How warm is it?", client=client, tools=[weather_by_another])
    (text,) = told(mesh)
    assert "'slow_weather' gives a coroutine; the asynchronous smart_chat awaits it" in text
    assert answer.calls[0].failed


def test_rounds_are_bounded_and_the_last_may_not_call(ask: Ask, mesh: RunningMesh) -> None:
    answer = ask(a_call("weather", city="Rome"), tools=[weather], max_rounds=3)
    assert len(mesh.servicer.requests) == 3
    assert len(answer.calls) == 2
    choices = [request.chat.tool_choice.mode for request in mesh.servicer.requests]
    assert choices == [pb.TOOL_CHOICE_MODE_UNSPECIFIED] * 2 + [pb.TOOL_CHOICE_MODE_NONE]


async def test_coroutine_functions_are_awaited(mesh: RunningMesh) -> None:
    mesh.servicer.style = pb.AnswerStyle(tool_format="hermes")
    mesh.servicer.answers = [a_call("slow_weather", city="Rome"), "Warm."]
    async with AsyncClient(mesh.address) as client:
        await smart_chat("tiny", "How warm is it?", client=client, tools=[slow_weather])
    assert told(mesh) == ["warm in Rome"]


def test_without_coroutines_a_coroutine_function_is_refused_before_anything_is_sent(mesh: RunningMesh) -> None:
    with Client(mesh.address) as client, pytest.raises(InvalidArgument, match="'slow_weather' is a coroutine function"):
        smart_chat_sync("tiny", "How warm is it?", client=client, tools=[slow_weather])
    assert not mesh.servicer.requests


@pytest.mark.parametrize("choice", ["required", "weather"])
def test_a_forced_call_is_forced_once(ask: Ask, mesh: RunningMesh, choice: str) -> None:
    answer = ask(a_call("weather", city="Rome"), "Warm.", tools=[weather], tool_choice=choice)
    assert (answer.text, len(answer.calls)) == ("Warm.", 1)
    first, second = (request.chat.tool_choice.mode for request in mesh.servicer.requests)
    assert first == pb.TOOL_CHOICE_MODE_REQUIRED
    assert second == pb.TOOL_CHOICE_MODE_AUTO


@dataclass
class Place:
    city: str
    country: str | None = None


class Unit(Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


def forecast(place: Place, days: list[Literal["mon", "tue"]], unit: Unit = Unit.CELSIUS) -> Place:
    """Says how warm it will be."""
    assert isinstance(place, Place)
    assert unit is Unit.FAHRENHEIT
    return Place(f"{place.city} on {', '.join(days)}")


def test_arguments_of_every_common_type(ask: Ask, mesh: RunningMesh) -> None:
    call = a_call("forecast", place={"city": "Rome"}, days=["mon", "tue"], unit="f")
    answer = ask(call, "Warm.", tools=[forecast])
    assert not answer.calls[0].failed, answer.calls
    assert [json.loads(text) for text in told(mesh)] == [{"city": "Rome on mon, tue", "country": None}]
    schema = json.loads(mesh.servicer.requests[0].chat.tools[0].parameters_json)
    assert schema["required"] == ["place", "days"]
    assert schema["properties"]["days"]["items"]["enum"] == ["mon", "tue"]
    assert schema["properties"]["unit"]["default"] == "c"
    assert schema["$defs"]["Place"]["properties"]["country"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


async def test_cancelling_ends_the_request(mesh: RunningMesh) -> None:
    mesh.servicer.endless = True
    begun = asyncio.Event()
    async with AsyncClient(mesh.address) as client:
        asking = asyncio.create_task(smart_chat("tiny", "hi", client=client, on_part=lambda _: begun.set()))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(mesh.servicer.cancelled.wait, 5)


def test_the_clients_timeout_bounds_each_request(mesh: RunningMesh) -> None:
    mesh.servicer.endless = True
    with Client(mesh.address, timeout_s=0.2) as client, pytest.raises(DeadlineExceeded):
        smart_chat_sync("tiny", "hi", client=client)


def takes_rest(*cities: str) -> str:
    return str(cities)


def takes_unknown(thing: "Nothing") -> str:  # type: ignore[name-defined]  # noqa: F821 - there is no such type
    return str(thing)


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ([lambda: 1], "a function with a name of its own"),
        ([takes_rest], r"takes \*cities: str, but a model names"),
        ([takes_unknown], "no schema can be made of the tool 'takes_unknown'"),
        ([weather, weather], "two of the tools are named 'weather'"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(tools: list[Any], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        read_functions(tools)


def test_bad_bounds_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArgument, match="max_rounds must be at least 1"):
        smart_chat_sync("tiny", "hi", max_rounds=0)
