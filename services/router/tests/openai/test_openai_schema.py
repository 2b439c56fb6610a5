"""What bodies may hold: JSON objects, unknown fields, numbers, nulls, and how many faults are told."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from openai.types import completion_create_params as params
from openai.types.chat import completion_create_params as chat_params

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.messages import Message
from infermesh_router.testing.dialects.openai_bodies import USER, chat, completion
from infermesh_runtime.errors import InvalidArgument


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "line 1 column 0"),
        (b"{", "line 1 column 1"),
        (b'{"model": "m",\n "x": }', "line 2 column 7"),
        (b'{"model": "\xff"}', "line 1 column 12"),
        (b'{"model": "\\ud800"}', "line 1"),
        (b'{"model": NaN}', "line 1 column 11"),
        (b"{} {}", "line 1 column 4"),
        (b'{"model": "a", "model": "b"}', 'duplicate key "model"'),
        (b"[" * 100_000, "recursion limit"),
        (b"[]", "must be a JSON object"),
        (b'"hi"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_what_is_no_json_object_says_where(body: bytes, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse_body(ChatRequest, body, ignore_unknown=True)
    assert caught.value.reason == "INVALID_JSON"


def test_unknown_fields_may_be_ignored_and_are_named() -> None:
    body = {
        "model": "m",
        "foo": 1,
        "<x>": 1,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "b": 1}], "a": 2}],
        "stream": True,
        "stream_options": {"x": 1},
    }
    parsed = parse_body(ChatRequest, json.dumps(body).encode(), ignore_unknown=True)
    assert set(parsed.ignored) == {"foo", "<x>", "messages[0].a", "messages[0].content[0].b", "stream_options.x"}
    assert pb.GenerateRequest.FromString(chat_job(parsed.request).calls[0].body).chat.messages[0].content == "hi"


def test_a_bad_field_beside_an_ignored_one_is_still_refused() -> None:
    body = json.dumps({"model": "m", "messages": [USER], "foo": 1, "n": 0}).encode()
    with pytest.raises(InvalidArgument) as caught:
        parse_body(ChatRequest, body, ignore_unknown=True)
    assert list(caught.value.fields) == ["n"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("chat_template_kwargs", b'"chat_template_kwargs": {"a": 1e999}'),
        ("structured_outputs.json", b'"structured_outputs": {"json": {"maximum": 1e999}}'),
        ("temperature", b'"temperature": 1e999'),
    ],
)
def test_a_number_beyond_a_double_is_refused(path: str, field: bytes) -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], ' + field + b"}"
    with pytest.raises(InvalidArgument) as caught:
        chat_job(parse_body(ChatRequest, body, ignore_unknown=False).request)
    assert list(caught.value.fields) == [path]


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [({"messages": [1] * 2_000}, "messages[0]"), ({f"k{i}": 1 for i in range(2_000)}, "k0")],
)
def test_of_countless_faults_only_the_first_is_told(fields: dict[str, Any], param: str, ignore: bool) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}).encode()
    with pytest.raises(InvalidArgument) as caught:
        parse_body(ChatRequest, body, ignore_unknown=ignore)
    assert list(caught.value.fields) == [param]


def test_value_of_a_bad_limit_is_told_once() -> None:
    with pytest.raises(InvalidArgument, match=r"'max_tokens' must be at least 1, or -1 for no limit, not 0\.$"):
        chat(max_tokens=0)


def test_every_fault_is_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        chat(n=0, top_p=3)
    assert set(caught.value.fields) == {"n", "top_p"}


@pytest.mark.parametrize("fields", [ChatRequest.model_fields, ["no_such_field", "<x>", "reasoning_details"]])
def test_null_means_unset(fields: Iterable[str]) -> None:
    """Clients that write all of their fields write null for those that are not set, known here or not."""
    required = {"model", "messages"}
    assert chat(**{name: None for name in fields if name not in required}) == chat()
    kept = {"role": "user", "content": "hi"}
    names = set(Message.model_fields) - kept.keys() | {"no_such_field"}
    assert chat(messages=[kept | dict.fromkeys(names)]) == chat()


def test_null_fields_of_completions_mean_unset() -> None:
    names = (CompletionRequest.model_fields.keys() | {"no_such_field"}) - {"model", "prompt"}
    assert completion(**dict.fromkeys(names)) == completion()


def test_every_field_of_openais_client_is_known() -> None:
    assert chat_params.CompletionCreateParamsBase.__annotations__.keys() <= ChatRequest.model_fields.keys()
    assert params.CompletionCreateParamsBase.__annotations__.keys() <= CompletionRequest.model_fields.keys()
