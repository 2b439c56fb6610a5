"""Bodies of Ollama's API become the requests that OpenAI's bodies would; errors name Ollama's fields."""

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from pydantic_core import PydanticCustomError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.ollama.convert import convert_chat, convert_generate
from infermesh_router.ollama.durations import read_keep_alive
from infermesh_router.ollama.fields import CHAT_NAMES, GENERATE_NAMES
from infermesh_router.ollama.schema import ChatBody, GenerateBody, Options
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Convert, Converted
from infermesh_router.openai.conversion import convert_chat as convert_openai
from infermesh_router.openai.errors import rename_fields
from infermesh_router.requests.bounds import Bounds
from infermesh_runtime.errors import InvalidArgument

RULES = BodyRules(ignore_unknown=True, max_bytes=1 << 20, bounds=Bounds())
USER = {"role": "user", "content": "hi"}
SEED = {"options": {"seed": 1}}


def converted(convert: Convert, body: dict[str, Any]) -> Converted:
    message = HttpBody(data=json.dumps({"model": "m"} | body).encode()).SerializeToString()
    return convert(message, RULES, "")


def request_of(convert: Convert, body: dict[str, Any]) -> pb.GenerateRequest:
    (call,) = converted(convert, body).job.calls
    return pb.GenerateRequest.FromString(call.body)


def refused(convert: Convert, body: dict[str, Any]) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        converted(convert, body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "openai"),
    [
        ({}, {}),
        ({"model": "m:latest"}, {}),
        ({"think": "max"}, {"reasoning_effort": "max", "enable_thinking": True}),
        ({"model": "m:7b"}, {"model": "m:7b"}),
        (
            {"options": {"temperature": 0.5, "top_k": 4, "top_p": 0.5, "min_p": 0.1, "stop": ["a"], "num_predict": 3}},
            {"temperature": 0.5, "top_k": 4, "top_p": 0.5, "min_p": 0.1, "stop": ["a"], "max_tokens": 3},
        ),
        (
            {"options": {"repeat_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": 0.5}},
            {"repetition_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": 0.5},
        ),
        ({"options": {"num_predict": -1, "top_k": 0, "repeat_penalty": 0}}, {"max_tokens": -1, "top_k": 0}),
        ({"options": {"num_predict": 5.0, "top_k": 3.0}}, {"max_tokens": 5, "top_k": 3}),
        ({"format": "json"}, {"response_format": {"type": "json_object"}}),
        ({"format": ""}, {}),
        ({"format": {"type": "object"}}, {"json_schema": {"type": "object"}}),
        ({"think": True}, {"enable_thinking": True}),
        ({"think": False}, {"enable_thinking": False}),
        ({"think": "low"}, {"reasoning_effort": "low", "enable_thinking": True}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"device": "cpu", "session_id": "s"}, {"device": "cpu", "session_id": "s"}),
    ],
)
def test_a_chat_becomes_what_openais_would(body: dict[str, Any], openai: dict[str, Any]) -> None:
    body = {"messages": [USER]} | body
    body["options"] = {"seed": 1} | body.get("options", {})
    assert request_of(convert_chat, body) == request_of(convert_openai, {"messages": [USER], "seed": 1} | openai)
    prompt = {name: value for name, value in body.items() if name != "messages"} | {"prompt": "hi"}
    assert request_of(convert_generate, prompt) == request_of(convert_chat, body)


def test_answers_are_streamed_unless_told_otherwise() -> None:
    for convert, said in ((convert_chat, {"messages": [USER]}), (convert_generate, {"prompt": "hi"})):
        assert converted(convert, said).job.stream
        assert not converted(convert, said | {"stream": False}).job.stream


def test_results_find_the_calls_that_they_answer() -> None:
    calls = [{"function": {"name": name, "arguments": {"a": 1}}} for name in ("f", "g")]
    messages = [
        USER,
        {"role": "assistant", "content": "", "thinking": "so", "tool_calls": calls},
        {"role": "tool", "content": "of g", "tool_name": "g"},
        {"role": "tool", "content": "of f"},
        {"role": "assistant", "tool_calls": [{"id": "mine", "function": {"name": "f", "arguments": {}, "index": 0}}]},
        {"role": "tool", "content": "1", "tool_call_id": "mine", "tool_name": "f"},
    ]
    made = request_of(convert_chat, {"messages": messages} | SEED).chat.messages
    first = made[1]
    assert [(call.name, call.arguments_json) for call in first.tool_calls] == [("f", '{"a":1}'), ("g", '{"a":1}')]
    assert first.reasoning_content == "so"
    ids = [call.id for call in first.tool_calls]
    assert len(set(ids)) == 2
    assert [message.tool_call_id for message in made[2:4]] == [ids[1], ids[0]]
    assert made[2].name == "g"
    assert (made[4].tool_calls[0].id, made[5].tool_call_id) == ("mine", "mine")


def test_roles_may_have_capital_letters() -> None:
    messages = [USER | {"role": "System"}, USER | {"role": "USER"}]
    assert [message.role for message in request_of(convert_chat, {"messages": messages}).chat.messages] == [
        "system",
        "user",
    ]


def test_a_prompt_with_a_system_text_or_without_a_template() -> None:
    spoken = request_of(convert_generate, {"prompt": "hi", "system": "be kind"}).chat.messages
    assert [(message.role, message.content) for message in spoken] == [("system", "be kind"), ("user", "hi")]
    raw = request_of(convert_generate, {"prompt": "hi", "raw": True})
    assert (raw.text, raw.stop.max_tokens) == ("hi", 2**32 - 1)  # not OpenAI's 16
    gap = request_of(convert_generate, {"prompt": "a", "suffix": "c", "options": {"num_predict": 3}})
    assert (gap.text, gap.prompt_options.suffix, gap.stop.max_tokens) == ("a", "c", 3)
    logprobs = request_of(convert_generate, {"prompt": "a", "raw": True, "logprobs": True, "top_logprobs": 2}).logprobs
    assert logprobs.top == 2


@pytest.mark.parametrize("body", [{"messages": [USER], "tools": [{"function": {"name": "f"}}]}, {"messages": []}])
def test_large_bodies_can_be_converted_in_another_process(body: dict[str, Any]) -> None:
    made = converted(convert_chat, body | SEED)
    again = pickle.loads(pickle.dumps(made))
    assert (again.job.calls, again.job.tools, again.extra) == (made.job.calls, made.job.tools, made.extra)


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"messages": []}, {"keep_alive": 0}])
def test_without_a_prompt_there_is_nothing_to_run(body: dict[str, Any]) -> None:
    is_chat = "messages" in body
    made = converted(convert_chat if is_chat else convert_generate, body)
    assert (made.job.calls, made.job.model, made.extra.is_chat) == ((), "m", is_chat)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"top_k": 2**31}}, "options.top_k"),
        ({"options": {"num_predict": 2**32}}, "options.num_predict"),
        ({"options": {"num_predict": "many"}}, "options.num_predict"),
        ({"options": {"stop": [""]}}, "options.stop[0]"),
        ({"format": "xml"}, "format"),
        ({"think": "hard"}, "think"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"keep_alive": True}, "keep_alive"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"model": ""}, "model"),
        ({"messages": [USER | {"images": ["aGk="]}]}, "messages[0].images"),
        ({"messages": [{"role": "tell", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, "mess"),
    ],
)
def test_errors_name_the_field(body: dict[str, Any], path: str) -> None:
    error = refused(convert_chat, {"messages": [USER]} | body)
    assert next(iter(error.fields)).startswith(path)
    assert path in error.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"context": [1], "raw": True}, "'context' must not be set beside 'raw', which renders no template."),
        ({"context": [1], "suffix": "x"}, "'context' must not be set beside 'suffix', which renders no template."),
        ({"template": "x"}, "'template' is not supported by this server; render the prompt yourself and set 'raw'."),
        ({"images": ["aGk="], "raw": True}, "'images' must not be set beside 'raw', which renders no template."),
        ({"images": ["aGk="], "suffix": "x"}, "'images' must not be set beside 'suffix', which renders no template."),
        ({"raw": True, "system": "x"}, "'system' must not be set beside 'raw', which renders no template."),
    ],
)
def test_what_a_prompt_may_not_have(body: dict[str, Any], told: str) -> None:
    assert refused(convert_generate, {"prompt": "hi"} | body).message == told


def test_what_is_empty_is_not_refused() -> None:
    converted(convert_generate, {"prompt": "hi", "context": [], "template": "", "images": [], "system": ""})


def test_fields_without_effect_are_named() -> None:
    options = {"num_ctx": 9, "mirostat": 0, "typical_p": 1.0, "tfs_z": 0.5, "unheard": 1, "num_gpu": None}
    found = converted(convert_chat, {"messages": [USER], "options": options, "truncate": True, "new": 1}).ignored
    assert set(found) == {"options.num_ctx", "options.tfs_z", "options.unheard", "truncate", "new"}
    beside_suffix = {"prompt": "a", "suffix": "b", "system": "c", "think": True}
    assert converted(convert_generate, beside_suffix).ignored == ("system", "think")


def test_each_field_without_effect_has_a_neutral_value_or_none() -> None:
    assert set(Options.HINTS) == {name for name, field in Options.model_fields.items() if field.annotation is Any}
    for schema in (ChatBody, GenerateBody):
        assert set(schema.HINTS) <= set(schema.model_fields)


@pytest.mark.parametrize(
    ("path", "chat", "generate"),
    [
        ("sampling.temperature", "options.temperature", "options.temperature"),
        ("sampling.repetition_penalty", "options.repeat_penalty", "options.repeat_penalty"),
        ("stop.max_tokens", "options.num_predict", "options.num_predict"),
        ("chat.messages[0].content", "messages[0].content", "prompt"),
        ("chat.reasoning_effort", "think", "think"),
        ("format.json_schema", "format", "format"),
        ("prompt", "messages", "prompt"),
        ("text", "messages", "prompt"),
        ("prompt_options.suffix", "suffix", "suffix"),
    ],
)
def test_errors_of_workers_name_ollamas_fields(path: str, chat: str, generate: str) -> None:
    for names, name in ((CHAT_NAMES, chat), (GENERATE_NAMES, generate)):
        error = InvalidArgument(f"{path}: is wrong", fields={path: "is wrong"})
        assert (rename_fields(error, names).message, *rename_fields(error, names).fields) == (f"{name}: is wrong", name)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        ("0", 0),
        ("0s", 0),
        (300, 300),
        (1.5, 1.5),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("2m0.5s", 120.5),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
        (-0.5, math.inf),
        (1e300, math.inf),
        ("9999999h", math.inf),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert read_keep_alive(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "m", None, [], "5x", "5m 3", "1e3", "--1", "٣m", "9" * 65, "1h" * 40])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(PydanticCustomError):
        read_keep_alive(value)


@pytest.mark.parametrize("name", sorted({*ChatBody.model_fields, *GenerateBody.model_fields, *Options.model_fields}))
def test_each_field_is_in_the_documentation(name: str) -> None:
    text = (Path(__file__).parents[4] / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text.split("## Ollama's API")[1].split("\n## ")[0]
