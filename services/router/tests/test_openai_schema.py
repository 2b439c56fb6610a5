"""What bodies may hold: each bad input, with the field it is told under."""

import json

import pytest
from openai.types import completion_create_params as params
from openai.types.chat import completion_create_params as chat_params

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert import chat_job, completion_job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema import ChatRequest, CompletionRequest, Message
from infermesh_runtime.errors import InvalidArgument

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(**fields: object) -> pb.GenerateRequest:
    (request,) = chat_job(parse_chat(**fields)).prompts
    return request


def parse_chat(**fields: object) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": [USER]} | fields).encode()
    return parse_body(ChatRequest, body, ignore_unknown=False).request


def completion(**fields: object) -> list[pb.GenerateRequest]:
    body = json.dumps({"model": "m", "prompt": "hi"} | fields).encode()
    return list(completion_job(parse_body(CompletionRequest, body, ignore_unknown=False).request).prompts)


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
    ("messages[0].role", {"messages": [{"role": "function", "content": "hi"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 3}]}),
    ("messages[0].content", {"messages": [{"role": "assistant", "content": None}]}),
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
                        {"type": "image_url", "image_url": {"url": "data:"}},
                    ],
                }
            ]
        },
    ),
    ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "4"}]}),
    ("messages[0].tool_call_id", {"messages": [USER | {"tool_call_id": "c"}]}),
    ("messages[0].tool_calls", {"messages": [USER | {"tool_calls": [CALL]}]}),
    ("messages[0].weight", {"messages": [USER | {"weight": 1}]}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("tools", {"tools": {}}),
    ("functions", {"functions": [{"name": "f"}]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("audio", {"audio": {"voice": "alloy", "format": "wav"}}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("prediction", {"prediction": {"type": "content", "content": "x"}}),
    ("reasoning_effort", {"reasoning_effort": "low"}),
    ("web_search_options", {"web_search_options": {}}),
    ("store", {"store": True}),
    ("service_tier", {"service_tier": "flex"}),
    ("verbosity", {"verbosity": "high"}),
    ("metadata.a", {"metadata": {"a": 1}}),
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
    ("guided_json", {"guided_json": {}}),
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
        ("echo", {"echo": True}),
        ("suffix", {"suffix": "end"}),
        ("best_of", {"best_of": 2}),
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
    assert chat_job(parsed.request).prompts[0].chat.messages[0].content == "hi"


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
def test_of_countless_faults_only_the_first_is_told(fields, param: str, ignore: bool) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}).encode()
    with pytest.raises(InvalidArgument) as caught:
        parse_body(ChatRequest, body, ignore_unknown=ignore)
    assert list(caught.value.fields) == [param]


def test_every_fault_is_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        chat(n=0, top_p=3)
    assert set(caught.value.fields) == {"n", "top_p"}


def test_everything_that_is_honoured_reaches_the_contract() -> None:
    request = chat(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "N"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "4", "tool_call_id": "c"},
        ],
        max_completion_tokens=5,
        n=2,
        seed=-1,
        temperature=0,
        top_p=0.5,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"7": -100},
        stop=["x", "y"],
        logprobs=True,
        top_logprobs=3,
        top_k=4,
        min_p=0.25,
        repetition_penalty=1.5,
        min_tokens=1,
        ignore_eos=True,
        stop_token_ids=[9],
        priority=-3,
        device="gpu",
        session_id="s",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        chat_template_kwargs={"think": False},
        add_generation_prompt=False,
    )
    expected = pb.GenerateRequest(
        model="m",
        chat=pb.ChatPrompt(
            messages=[
                pb.ChatMessage(role="developer", content="be brief"),
                pb.ChatMessage(role="user", content="ab", name="N"),
                pb.ChatMessage(role="assistant", tool_calls=[pb.ToolCall(id="c", name="f", arguments_json="{}")]),
                pb.ChatMessage(role="tool", content="4", tool_call_id="c"),
            ],
            add_generation_prompt=False,
            template_kwargs_json='{"think":false}',
        ),
        sampling=pb.SamplingParams(
            temperature=0,
            top_k=4,
            top_p=0.5,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=1,
            frequency_penalty=-1,
            logit_bias={7: -100},
        ),
        stop=pb.StopConditions(strings=["x", "y"], token_ids=[9], max_tokens=5, min_tokens=1, ignore_eos=True),
        format=pb.OutputFormat(json_schema='{"type":"object"}'),
        logprobs=pb.LogprobsOptions(top=3),
        n=2,
        seed=2**64 - 1,
        priority=3,
        device="gpu",
        session_id="s",
    )
    assert request == expected


def test_nothing_is_set_that_was_not_asked_for() -> None:
    request = chat()
    assert request == pb.GenerateRequest(
        model="m", chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="hi")]), stop={}, sampling={}
    )


def test_fields_without_effect_are_taken() -> None:
    plain = chat()
    same = chat(
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=True,
        tool_choice="none",
        modalities=["text"],
        verbosity="medium",
        response_format={"type": "text"},
        tools=[],
        functions=[],
        reasoning_effort="none",
        logprobs=False,
        top_logprobs=0,
        stop=[],
        logit_bias={},
    )
    assert same == plain
    assert chat(prompt_cache_key="k").session_id == "k"


def test_the_client_is_named_for_fairness() -> None:
    assert chat(user="u").client_id == "u"
    assert chat(user="u", safety_identifier="s").client_id == "s"


@pytest.mark.parametrize("fields", [ChatRequest.model_fields, ["no_such_field", "<x>", "reasoning_content"]])
def test_null_means_unset(fields) -> None:
    """Clients that write all of their fields write null for those that are not set, known here or not."""
    required = {"model", "messages"}
    assert chat(**{name: None for name in fields if name not in required}) == chat()
    kept = {"role": "user", "content": "hi"}
    names = set(Message.model_fields) - kept.keys() | {"reasoning_content"}
    assert chat(messages=[kept | dict.fromkeys(names)]) == chat()


def test_null_fields_of_completions_mean_unset() -> None:
    names = (CompletionRequest.model_fields.keys() | {"no_such_field"}) - {"model", "prompt"}
    assert completion(**dict.fromkeys(names)) == completion()


def test_every_field_of_openais_client_is_known() -> None:
    sent = {ChatRequest: chat_params.CompletionCreateParamsBase, CompletionRequest: params.CompletionCreateParamsBase}
    for schema, theirs in sent.items():
        assert theirs.__annotations__.keys() <= schema.model_fields.keys()


def test_top_p_zero_is_the_most_probable_token() -> None:
    assert chat(top_p=0, top_k=40).sampling == pb.SamplingParams(top_k=1)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"regex": "[a-z]+"}, pb.OutputFormat(regex="[a-z]+")),
        ({"grammar": "start: /a/"}, pb.OutputFormat(grammar="start: /a/")),
        ({"json": {"a": 1}}, pb.OutputFormat(json_schema='{"a":1}')),
        ({"json": '{"a": 1}'}, pb.OutputFormat(json_schema='{"a": 1}')),
        ({"json_object": True}, pb.OutputFormat(json_schema="{}")),
        ({"choice": ["yes", "no (really)"]}, pb.OutputFormat(regex=r"yes|no \(really\)")),
    ],
)
def test_structured_outputs(outputs: dict[str, object], expected: pb.OutputFormat) -> None:
    assert chat(structured_outputs=outputs).format == expected


def test_completions() -> None:
    (request,) = completion(logprobs=0)
    assert request.text == "hi"
    assert request.stop.max_tokens == 16
    assert request.HasField("logprobs")
    assert [r.text for r in completion(prompt=["a", "b"], best_of=1)] == ["a", "b"]
    tokens = [[*r.token_ids.shape, r.token_ids.data] for r in completion(prompt=[[1], [2, 3]])]
    assert tokens == [[1, b"\1" + b"\0" * 7], [2, b"\2" + b"\0" * 7 + b"\3" + b"\0" * 7]]
    assert len(completion(prompt=[1, 2])) == 1
