"""The options of the SDK cover every field of a GenerateRequest but those that routers set."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from infermesh.inference.v1 import inference_pb2
from infermesh_client.image_parts import image_part
from infermesh_client.request import ChatMessage, GenerateOptions, Prompt, build_request
from infermesh_runtime.errors import InvalidArgument

NOT_OFFERED = {"generated"}
"""What a stream has delivered: a router sets it when it moves the stream."""

CALLS = [inference_pb2.ToolCall(id="c", name="f", arguments_json="{}")]
CHAT: list[ChatMessage] = [
    {"role": "user", "content": "", "content_parts": ["a", "b"], "name": "Ada"},
    {"role": "user", "content": "", "parts": ["What is this?", image_part(b"an image", detail="low")]},
    {"role": "assistant", "content": "", "tool_calls": CALLS, "reasoning_content": "Hm."},
    {"role": "tool", "content": "1", "tool_call_id": "c"},
]
EVERYWHERE: Mapping[str, Any] = {
    "model": "m", "device": "cpu", "session_id": "s", "client_id": "c", "priority": 1, "seed": 1, "n": 2,
    "max_tokens": 9, "min_tokens": 1, "stop": ["x"], "stop_token_ids": [1], "ignore_eos": True,
    "temperature": 0.5, "top_k": 1, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.1,
    "frequency_penalty": 0.1, "logit_bias": {1: 2.0}, "logprobs": 3, "cache_salt": "c", "prediction": "red",
    "allowed_token_ids": [1], "bad_words": ["x"], "add_special_tokens": False, "truncate_prompt_tokens": 4,
    "return_prompt_token_ids": True, "return_prompt_text": True, "prompt_logprobs": 1, "suffix": "s",
    "keep_special_tokens": True, "keep_stop": True, "show_marks": True,
}  # fmt: skip
TOOLS = [inference_pb2.Tool(name="f", description="d", parameters_json="{}")]
OF_CHATS: Mapping[str, Any] = {
    "tools": TOOLS, "tool_choice": "f", "parallel_tool_calls": False, "add_generation_prompt": False,
    "continue_final_message": True, "template_kwargs": {"thinking": False}, "reasoning_effort": "low",
    "verbosity": "low", "enable_thinking": True,
}  # fmt: skip
ASKED: list[tuple[Prompt, Mapping[str, Any]]] = [
    (CHAT, {**EVERYWHERE, **OF_CHATS, "json_schema": "{}", "open_objects": True}),
    ("text", {"regex": "a", "prediction": [1, 2]}),
    ([1, 2], {"grammar": "start: A"}),
]


def options(given: Mapping[str, Any]) -> GenerateOptions:
    return cast(GenerateOptions, given)


def paths(kind: Any, before: str = "") -> Iterator[str]:
    """All fields of a message, down to those that are no messages of this contract."""
    for field in kind.fields:
        yield before + field.name
        if _is_own(field):
            yield from paths(field.message_type, f"{before}{field.name}.")


def set_paths(message: Message, before: str = "") -> Iterator[str]:
    """The fields that a message has."""
    for field, value in message.ListFields():
        yield before + field.name
        if _is_own(field):
            for each in [value] if isinstance(value, Message) else value:
                yield from set_paths(each, f"{before}{field.name}.")


def _is_own(field: Any) -> bool:
    kind = field.message_type
    return kind is not None and kind.file.package == "infermesh.inference.v1" and not kind.GetOptions().map_entry


def test_every_field_is_offered_but_those_of_routers() -> None:
    offered = {path for prompt, given in ASKED for path in set_paths(build_request(prompt, options(given)))}
    every = set(paths(inference_pb2.GenerateRequest.DESCRIPTOR))
    assert {path for path in every - offered if path.partition(".")[0] not in NOT_OFFERED} == set()
    assert every - offered >= NOT_OFFERED


def test_every_option_was_tried_here() -> None:
    assert {name for _, given in ASKED for name in given} == GenerateOptions.__annotations__.keys()


@pytest.mark.parametrize(
    ("choice", "mode", "name"),
    [("auto", "AUTO", ""), ("none", "NONE", ""), ("required", "REQUIRED", ""), ("f", "REQUIRED", "f")],
)
def test_a_tool_choice_is_a_mode_or_a_name(choice: str, mode: str, name: str) -> None:
    chosen = build_request(CHAT, {"tools": TOOLS, "tool_choice": choice}).chat.tool_choice
    assert (inference_pb2.ToolChoiceMode.Name(chosen.mode), chosen.name) == (f"TOOL_CHOICE_MODE_{mode}", name)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"template_kwargs": {}}, "template_kwargs can be given only with a conversation"),
        ({"open_objects": True}, "open_objects says how to read a json_schema"),
        ({"open_objects": False, "regex": "a"}, "open_objects says how to read a json_schema"),
    ],
)
def test_options_that_do_not_belong_to_the_rest(given: Mapping[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        build_request("text", options(given))
