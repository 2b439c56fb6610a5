"""instructor: structured answers in its modes of JSON schema, and streamed partial objects."""

from typing import Any

import instructor
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.clients.running import MODEL

QUESTION: list[Any] = [{"role": "user", "content": "Ada is 36 years old. Who is it?"}]


class Person(BaseModel):
    """What the answer is made into."""

    name: str
    age: int


@pytest.mark.parametrize("mode", [instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON, instructor.Mode.MD_JSON])
def test_a_model_is_filled(mesh_url: str, mode: instructor.Mode) -> None:
    with OpenAI(base_url=f"{mesh_url}/v1", api_key="any") as client:
        made = instructor.from_openai(client, mode=mode)
        asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 96, "temperature": 0}
        if mode is instructor.Mode.JSON_SCHEMA:
            assert isinstance(made.chat.completions.create(**asked, response_model=Person), Person)
        else:  # these modes do not force the schema, so a small model may not follow it
            answer = made.chat.completions.create(**asked, response_model=None)
            assert answer.choices[0].message.content


def test_partial_objects(mesh_url: str) -> None:
    with OpenAI(base_url=f"{mesh_url}/v1", api_key="any") as client:
        made = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
        asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 96, "temperature": 0}
        *_, last = made.chat.completions.create_partial(**asked, response_model=Person)
    assert isinstance(last.age, int)


async def test_asynchronous(mesh_url: str) -> None:
    async with AsyncOpenAI(base_url=f"{mesh_url}/v1", api_key="any") as client:
        made = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
        person = await made.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=96, temperature=0, response_model=Person
        )
    assert isinstance(person, Person)
