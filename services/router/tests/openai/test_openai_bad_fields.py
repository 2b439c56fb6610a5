"""Each bad field of a chat or a completion, and the name it is reported under."""

import json

import pytest

from infermesh_router.batches.schema import BatchBody
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.testing.dialects.openai_bodies import CALL, TOOL, USER, chat, completion
from infermesh_runtime.errors import InvalidArgument

BAD_CHAT = [
    ("temperature", {"temperature": -1}),
    ("temperature", {"temperature": 2.1}),
    ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": True}),
    ("top_p", {"top_p": 2}),
    ("top_p", {"top_p": -0.1}),
    ("n", {"n": 0}),
    ("n", {"n": 129}),
    ("n", {"n": 1.5}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_completion_tokens", {"max_completion_tokens": 0}),
    ("max_completion_tokens", {"max_completion_tokens": 2**32}),
    ("max_tokens", {"max_tokens": 1, "max_completion_tokens": 2}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("top_logprobs", {"top_logprobs": 2}),
    ("top_logprobs", {"logprobs": False, "top_logprobs": 2}),
    ("presence_penalty", {"presence_penalty": 2.5}),
    ("frequency_penalty", {"frequency_penalty": -2.5}),
    ("repetition_penalty", {"repetition_penalty": 0}),
    ("min_p", {"min_p": 1.5}),
    ("top_k", {"top_k": -2}),
    ("min_tokens", {"min_tokens": -1}),
    ("stop_token_ids[0]", {"stop_token_ids": ["a"]}),
    ("seed", {"seed": 2**64}),
    ("seed", {"seed": "x"}),
    ("stop", {"stop": 5}),
    ("stop", {"stop": ""}),
    ("stop[1]", {"stop": ["a", ""]}),
    ("stop", {"stop": ["a"] * 17}),
    ("logit_bias.5", {"logit_bias": {"5": 101}}),
    ("logit_bias", {"logit_bias": {"five": 1}}),
    ("logit_bias", {"logit_bias": {str(2**32): 1}}),
    ("logit_bias", {"logit_bias": [1]}),
    ("logit_bias", {"logit_bias": {"1" * 5000: 1}}),
    ("logit_bias", {"logit_bias": {"07": 1}}),
    ("temperature", {"temperature": 10**400}),
    ("<x>", {"<x>": 1}),
    ("", {"": 1}),
    ("stream", {"stream": "yes"}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("stream_options.include_obfuscation", {"stream": True, "stream_options": {"include_obfuscation": True}}),
    ("stream_options.x", {"stream": True, "stream_options": {"x": 1}}),
    ("model", {"model": ""}),
    ("model", {"model": None}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "hi"}),
    ("messages[0]", {"messages": ["hi"]}),
    ("messages[0].role", {"messages": [{"content": "hi"}]}),
    ("messages[0].role", {"messages": [{"role": "robot", "content": "hi"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 3}]}),
    ("messages[1].content[0].text", {"messages": [USER, {"role": "user", "content": [{"type": "text"}]}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": []}]}),
    ("messages[0].content[0]", {"messages": [{"role": "user", "content": [3]}]}),
    (
        "messages[0].content[1].type",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what is it?"},
                        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                    ],
                }
            ]
        },
    ),
    ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "4"}]}),
    ("messages[0].tool_call_id", {"messages": [USER | {"tool_call_id": "c"}]}),
    ("messages[0].tool_calls", {"messages": [USER | {"tool_calls": [CALL]}]}),
    ("messages[0].weight", {"messages": [USER | {"weight": 1}]}),
    ("messages[0].name", {"messages": [{"role": "function", "content": "hi"}]}),
    ("messages[0].function_call", {"messages": [USER | {"function_call": {"name": "f", "arguments": "{}"}}]}),
    ("tools", {"tools": {}}),
    ("tools[0].type", {"tools": [{"type": "web_search"}]}),
    ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": ""}}]}),
    ("tools[1].function.name", {"tools": [TOOL, TOOL]}),
    ("tools[0].function.parameters", {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}),
    ("functions", {"functions": [{"name": "f"}], "tools": [TOOL]}),
    ("functions[0].name", {"functions": [{}]}),
    ("function_call.name", {"functions": [{"name": "f"}], "function_call": {"name": "g"}}),
    ("tool_choice", {"tool_choice": "required"}),
    ("tool_choice", {"tool_choice": "any", "tools": [TOOL]}),
    ("tool_choice.type", {"tool_choice": {"type": "custom", "function": {"name": "f"}}, "tools": [TOOL]}),
    ("tool_choice.function.name", {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}),
    (
        "tool_choice.allowed_tools.tools",
        {
            "tools": [TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]},
            },
        },
    ),
    ("tool_choice", {"tool_choice": "required", "tools": [TOOL], "response_format": {"type": "json_object"}}),
    ("audio", {"audio": {"voice": "alloy", "format": "wav"}}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("web_search_options", {"web_search_options": {}}),
    ("reasoning_effort", {"reasoning_effort": "huge"}),
    ("store", {"store": "yes"}),
    ("service_tier", {"service_tier": "gold"}),
    ("verbosity", {"verbosity": "loud"}),
    ("max_tokens", {"max_tokens": -2}),
    ("prompt_logprobs", {"prompt_logprobs": 1, "stream": True}),
    ("stream_options.continuous_usage_stats", {"stream": True, "stream_options": {"continuous_usage_stats": True}}),
    ("truncate_prompt_tokens", {"truncate_prompt_tokens": 0}),
    ("allowed_token_ids", {"allowed_token_ids": []}),
    ("bad_words[0]", {"bad_words": [""]}),
    ("deadline_ms", {"deadline_ms": 0}),
    ("cache_salt", {"cache_salt": ""}),
    ("continue_final_message", {"continue_final_message": True, "add_generation_prompt": True}),
    ("use_beam_search", {"use_beam_search": True}),
    ("metadata", {"metadata": "a"}),
    ("format", {"format": "json"}),
    ("logits_processors", {"logits_processors": ["x"]}),
    ("response_format", {"response_format": "json"}),
    ("response_format", {"response_format": {"type": "xml"}}),
    ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    ("response_format.json_schema.name", {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
    (
        "response_format.json_schema.schema",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": "x"}}},
    ),
    ("structured_outputs", {"structured_outputs": {}}),
    ("structured_outputs", {"structured_outputs": {"regex": "a", "json": {}}}),
    ("structured_outputs", {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}),
    ("structured_outputs.backend", {"structured_outputs": {"regex": "a", "backend": "x"}}),
    ("foo", {"foo": 1}),
    ("foo", {"bar": None, "foo": 1}),
    ("guided_json", {"guided_json": 3}),
    ("guided_regex", {"guided_json": {}, "guided_regex": "a"}),
    ("guided_choice", {"guided_choice": []}),
    ("structured_outputs.structural_tag", {"structured_outputs": {"structural_tag": "{}"}}),
    ("device", {"device": 1}),
]


@pytest.mark.parametrize(("param", "fields"), BAD_CHAT, ids=lambda v: v if isinstance(v, str) else "")
def test_a_bad_chat_body_names_its_field(param: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        chat(**fields)
    assert next(iter(caught.value.fields)) == param
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("prompt", {"prompt": None}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": 3}),
        ("prompt[1]", {"prompt": ["a", 1]}),
        ("prompt[1]", {"prompt": [1, "a"]}),
        ("prompt[0]", {"prompt": [[]]}),
        ("prompt[0]", {"prompt": [-1]}),
        ("prompt[1][0]", {"prompt": [[1], ["a"]]}),
        ("best_of", {"best_of": 2, "n": 3}),
        ("best_of", {"best_of": 2, "stream": True}),
        ("echo", {"echo": True, "suffix": "end"}),
        ("suffix", {"suffix": "end", "prompt": [1, 2]}),
        ("logprobs", {"logprobs": 21}),
        ("logprobs", {"logprobs": True}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_completion_tokens", {"max_completion_tokens": 4}),
        ("messages", {"messages": []}),
    ],
)
def test_a_bad_completion_body_names_its_field(param: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        completion(**fields)
    assert next(iter(caught.value.fields)) == param


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    body = {"model": "m", "messages": [USER]}
    del body[missing]
    with pytest.raises(InvalidArgument, match=f"'{missing}' is required") as caught:
        parse_body(ChatRequest, json.dumps(body).encode(), ignore_unknown=False)
    assert caught.value.reason == "MISSING_REQUIRED_PARAMETER"


def test_what_is_too_long_is_told_without_the_words_of_a_library() -> None:
    with pytest.raises(InvalidArgument) as error:
        parse_body(ChatRequest, json.dumps(chat(stop=["a"] * 17)).encode(), ignore_unknown=False)
    assert error.value.message == "'stop' must have at most 16 items, not 17."
    metadata = {str(number): "a" for number in range(17)}
    body = {"input_file_id": "f", "endpoint": "/v1/completions", "completion_window": "24h", "metadata": metadata}
    with pytest.raises(InvalidArgument) as error:
        parse_body(BatchBody, json.dumps(body).encode(), ignore_unknown=False)
    assert error.value.message == "'metadata' must have at most 16 items."
