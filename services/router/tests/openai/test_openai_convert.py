"""Which fields of GenerateRequest the fields of a body become."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.dialects.openai_bodies import CALL, chat, completion


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
                pb.ChatMessage(role="user", content_parts=["a", "b"], name="N"),
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
        text_options=pb.TextOptions(show_marks=True),
    )
    assert request == expected


def test_nothing_is_set_that_was_not_asked_for() -> None:
    request = chat()
    assert request == pb.GenerateRequest(
        model="m",
        chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="hi")]),
        stop={},
        sampling={},
        text_options=pb.TextOptions(show_marks=True),  # the router parses the answer
    )


def test_fields_without_effect_are_taken() -> None:
    plain = chat()
    same = chat(
        metadata={"a": "b"},
        store=False,
        service_tier="flex",
        parallel_tool_calls=True,
        tool_choice="none",
        modalities=["text"],
        skip_special_tokens=True,
        response_format={"type": "text"},
        tools=[],
        functions=[],
        prediction={"type": "content", "content": ""},
        spaces_between_special_tokens=False,
        logprobs=False,
        top_logprobs=0,
        stop=[],
        logit_bias={},
    )
    assert same == plain
    assert chat(prompt_cache_key="k").session_id == "k"


@pytest.mark.parametrize("content", ["ab", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]])
def test_a_prediction_reaches_the_worker(content: object) -> None:
    assert chat(prediction={"type": "content", "content": content}).prediction == pb.Prediction(text="ab")


def test_the_client_is_named_for_fairness() -> None:
    assert chat(user="u").client_id == "u"
    assert chat(user="u", safety_identifier="s").client_id == "s"


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


@pytest.mark.parametrize(("strict", "is_open"), [(None, None), (True, False), (False, True)])
def test_strict_says_whether_objects_are_open(strict: bool | None, is_open: bool | None) -> None:
    request = chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": strict}})
    assert request.format == pb.OutputFormat(json_schema="{}", open_objects=is_open)


def test_completions() -> None:
    (request,) = completion(logprobs=0)
    assert request.text == "hi"
    assert request.stop.max_tokens == 16
    assert request.HasField("logprobs")
    assert [r.text for r in completion(prompt=["a", "b"], best_of=1)] == ["a", "b"]
    tokens = [[*r.token_ids.shape, r.token_ids.data] for r in completion(prompt=[[1], [2, 3]])]
    assert tokens == [[1, b"\1" + b"\0" * 7], [2, b"\2" + b"\0" * 7 + b"\3" + b"\0" * 7]]
    assert len(completion(prompt=[1, 2])) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"guided_json": {"a": 1}}, pb.OutputFormat(json_schema='{"a":1}')),
        ({"guided_json": '{"a": 1}'}, pb.OutputFormat(json_schema='{"a": 1}')),
        ({"guided_regex": "[a-z]+"}, pb.OutputFormat(regex="[a-z]+")),
        ({"guided_grammar": "start: /a/"}, pb.OutputFormat(grammar="start: /a/")),
        ({"guided_choice": ["a+", "b"]}, pb.OutputFormat(regex=r"a\+|b")),
        ({"json_schema": {"a": 1}}, pb.OutputFormat(json_schema='{"a":1}')),
        ({"grammar": 'root ::= "a"'}, pb.OutputFormat(grammar='root ::= "a"')),
        ({"response_format": {"type": "json_object", "schema": {"a": 1}}}, pb.OutputFormat(json_schema='{"a":1}')),
        (
            {"structured_outputs": {"json": {}, "disable_additional_properties": True}},
            pb.OutputFormat(json_schema="{}", open_objects=False),
        ),
    ],
)
def test_formats_in_other_dialects(fields: dict[str, object], expected: pb.OutputFormat) -> None:
    assert chat(**fields).format == expected
    (request,) = completion(**fields)
    assert request.format == expected


def test_decoding_options_reach_the_contract() -> None:
    (request,) = completion(
        allowed_token_ids=[3, 4],
        bad_words=["no"],
        skip_special_tokens=False,
        include_stop_str_in_output=True,
        truncate_prompt_tokens=-1,
        add_special_tokens=False,
        return_token_ids=True,
        prompt_logprobs=2,
        echo=True,
        logprobs=3,
        cache_salt="s",
    )
    assert list(request.sampling.allowed_token_ids) == [3, 4]
    assert list(request.sampling.bad_words) == ["no"]
    assert request.text_options == pb.TextOptions(keep_special_tokens=True, keep_stop=True)
    assert request.prompt_options == pb.PromptOptions(
        add_special_tokens=False, truncate_tokens=0, return_token_ids=True, return_text=True, logprobs=3
    )
    assert request.cache_salt == "s"


def test_what_the_template_is_told() -> None:
    prompt = chat(
        messages=[{"role": "assistant", "content": "I"}],
        reasoning_effort="low",
        verbosity="high",
        enable_thinking=False,
        continue_final_message=True,
    ).chat
    assert (prompt.reasoning_effort, prompt.verbosity, prompt.enable_thinking) == ("low", "high", False)
    assert prompt.continue_final_message
