"""Builds the GenerateRequest that both clients send, from a prompt and keyword options."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

import numpy as np

from infermesh.inference.v1 import inference_pb2
from infermesh.tensor.v1 import tensor_pb2
from infermesh_client.image_parts import MessagePart, content_parts
from infermesh_runtime.errors import InvalidArgument

Event = inference_pb2.Started | inference_pb2.Delta | inference_pb2.Finished
"""One event of a generation: a stream is one Started, any number of Delta, and one Finished for each choice."""


class ChatMessage(TypedDict):
    """One message of a conversation.

    `name` is the speaker's name, for chat templates that use one. `tool_calls` are those of an "assistant" message, and
    `tool_call_id`, in a "tool" message, names the call that this is the result of. `content_parts` replaces a content
    of more than one part; `content` is "" then. So do `parts`, texts and images in order: the bytes of an image, a
    `Path`, or what `image_part` makes. `reasoning_content` is what an "assistant" thought before its content.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    content_parts: NotRequired[Sequence[str]]
    parts: NotRequired[Sequence[MessagePart]]
    name: NotRequired[str]
    tool_calls: NotRequired[Sequence[inference_pb2.ToolCall]]
    tool_call_id: NotRequired[str]
    reasoning_content: NotRequired[str]


Prompt = str | Sequence[int] | Sequence[ChatMessage]
"""Text to continue as it is, token ids, or a conversation that the model's chat template renders."""


class AnswerOptions(TypedDict, total=False):
    """Options of every way to ask for an answer. GenerateOptions says what they mean."""

    session_id: str
    client_id: str
    priority: int
    seed: int
    n: int
    cache_salt: str
    prediction: str | Sequence[int]
    max_tokens: int
    min_tokens: int
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    allowed_token_ids: Sequence[int]
    bad_words: Sequence[str]
    add_special_tokens: bool
    truncate_prompt_tokens: int
    return_prompt_token_ids: bool
    return_prompt_text: bool
    prompt_logprobs: int
    suffix: str
    keep_special_tokens: bool
    keep_stop: bool
    show_marks: bool
    json_schema: str
    regex: str
    grammar: str
    open_objects: bool
    logprobs: int
    tool_choice: str
    parallel_tool_calls: bool
    add_generation_prompt: bool
    continue_final_message: bool
    template_kwargs: Mapping[str, Any]
    reasoning_effort: str
    verbosity: str
    enable_thinking: bool


class GenerateOptions(AnswerOptions, total=False):
    """Options of `generate`. An option that is missing or None has the default of the contract.

    inference.proto gives the meaning, range and default of each: model to cache_salt and logprobs (its `top`) in
    GenerateRequest; max_tokens to ignore_eos in StopConditions; temperature to bad_words in SamplingParams;
    add_special_tokens to suffix in PromptOptions, where truncate_prompt_tokens is truncate_tokens, prompt_logprobs is
    logprobs, and what begins with return_prompt_ is return_token_ids and return_text; keep_special_tokens to
    show_marks in TextOptions. Of json_schema, regex and grammar (OutputFormat) only one may be given; open_objects
    belongs to json_schema. prediction is a text or token ids. tools to enable_thinking (ChatPrompt; template_kwargs
    are values for the chat template) need a conversation as the prompt. tool_choice is "auto", "none", "required" or
    the name of the tool to call.
    """

    model: str
    device: str
    tools: Sequence[inference_pb2.Tool]


_DIRECT = ("model", "device", "session_id", "client_id", "priority", "seed", "n", "cache_salt")
_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
)
_STOP = {
    "stop": "strings",
    "stop_token_ids": "token_ids",
    "max_tokens": "max_tokens",
    "min_tokens": "min_tokens",
    "ignore_eos": "ignore_eos",
}
_PROMPT = {
    "add_special_tokens": "add_special_tokens",
    "truncate_prompt_tokens": "truncate_tokens",
    "return_prompt_token_ids": "return_token_ids",
    "return_prompt_text": "return_text",
    "prompt_logprobs": "logprobs",
    "suffix": "suffix",
}
_TEXT = ("keep_special_tokens", "keep_stop", "show_marks")
_FORMATS = ("json_schema", "regex", "grammar")
_CHAT = (
    "tools",
    "parallel_tool_calls",
    "add_generation_prompt",
    "continue_final_message",
    "reasoning_effort",
    "verbosity",
    "enable_thinking",
)
_OF_CHATS = (*_CHAT, "tool_choice", "template_kwargs")
_TOOL_CHOICES = {
    "auto": inference_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": inference_pb2.TOOL_CHOICE_MODE_NONE,
    "required": inference_pb2.TOOL_CHOICE_MODE_REQUIRED,
}


def build_request(prompt: Prompt, options: GenerateOptions) -> inference_pb2.GenerateRequest:
    """Builds the request. Raises InvalidArgument for a bad prompt, or an unknown, malformed or conflicting option."""
    given = {name: value for name, value in options.items() if value is not None}
    unknown = given.keys() - GenerateOptions.__annotations__.keys()
    if unknown:
        names = ", ".join(sorted(unknown))
        raise InvalidArgument(f"generate has no option {names}; GenerateOptions lists those it has")
    try:
        return _build(prompt, given)
    except (TypeError, ValueError) as error:  # protobuf's own checks of types and ranges
        raise InvalidArgument(f"the request is malformed: {error}") from error


def _build(prompt: Prompt, given: Mapping[str, Any]) -> inference_pb2.GenerateRequest:
    request = inference_pb2.GenerateRequest(**_pick(given, _DIRECT))
    _set_prompt(request, prompt, given)
    if sampling := _pick(given, _SAMPLING):
        request.sampling.CopyFrom(inference_pb2.SamplingParams(**sampling))
    if stop := _renamed(given, _STOP):
        request.stop.CopyFrom(inference_pb2.StopConditions(**stop))
    if of_prompt := _renamed(given, _PROMPT):
        request.prompt_options.CopyFrom(inference_pb2.PromptOptions(**of_prompt))
    if of_text := _pick(given, _TEXT):
        request.text_options.CopyFrom(inference_pb2.TextOptions(**of_text))
    _set_format(request, given)
    if (expected := given.get("prediction")) is not None:
        field = "text" if isinstance(expected, str) else "token_ids"
        request.prediction.CopyFrom(inference_pb2.Prediction(**{field: expected}))
    if "logprobs" in given:
        request.logprobs.CopyFrom(inference_pb2.LogprobsOptions(top=given["logprobs"]))
    return request


def _set_format(request: inference_pb2.GenerateRequest, given: Mapping[str, Any]) -> None:
    formats = _pick(given, _FORMATS)
    if len(formats) > 1:
        raise ValueError(f"only one output format can be given, but these were: {', '.join(formats)}")
    if "open_objects" in given and "json_schema" not in formats:
        raise ValueError("open_objects says how to read a json_schema, and none was given")
    if formats:
        request.format.CopyFrom(inference_pb2.OutputFormat(**formats, **_pick(given, ("open_objects",))))


def _pick(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: given[name] for name in names if name in given}


def _set_prompt(request: inference_pb2.GenerateRequest, prompt: Prompt, given: Mapping[str, Any]) -> None:
    if isinstance(prompt, str):
        request.text = prompt
    elif not prompt:
        raise ValueError("the prompt is empty")
    elif isinstance(prompt[0], Mapping):
        messages = [_message(message) for message in cast(Sequence[ChatMessage], prompt)]
        chat = inference_pb2.ChatPrompt(messages=messages, **_pick(given, _CHAT))
        if "tool_choice" in given:
            chat.tool_choice.CopyFrom(_tool_choice(given["tool_choice"]))
        if "template_kwargs" in given:
            chat.template_kwargs_json = json.dumps(given["template_kwargs"])
        request.chat.CopyFrom(chat)
    else:
        request.token_ids.CopyFrom(_token_tensor(prompt))
    if (of_chats := _pick(given, _OF_CHATS)) and not request.HasField("chat"):
        name = next(iter(of_chats))
        raise ValueError(f"{name} can be given only with a conversation (a list of messages) as the prompt")


def _message(message: ChatMessage) -> inference_pb2.ChatMessage:
    fields: dict[str, Any] = dict(message)
    if "parts" in message:
        fields["parts"] = content_parts(message["parts"])
    return inference_pb2.ChatMessage(**fields)


def _tool_choice(choice: str) -> inference_pb2.ToolChoice:
    mode = _TOOL_CHOICES.get(choice)
    if mode is None:
        return inference_pb2.ToolChoice(mode=inference_pb2.TOOL_CHOICE_MODE_REQUIRED, name=choice)
    return inference_pb2.ToolChoice(mode=mode)


def _token_tensor(token_ids: Sequence[object]) -> tensor_pb2.Tensor:
    array = np.asarray(token_ids, dtype="<i8")
    return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=array.shape, data=array.tobytes())


def event_of(response: inference_pb2.GenerateResponse) -> Event | None:
    """Returns the event in a response, or None for a kind of event that this version does not know."""
    kind = response.WhichOneof("event")
    event: Event | None = getattr(response, kind) if kind else None
    return event
