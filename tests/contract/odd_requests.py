"""Makes requests that are legal but odd, and some just beyond what is legal: everything a client may think of."""

import json
from typing import Any

from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor

LAST_TOKEN = 256
"""Largest id of the simulated worker's vocabulary, which is bytes and the end of sequence."""

_texts = st.text(min_size=1, max_size=12) | st.sampled_from(["\0", "\ufffd", "😀" * 20, "a" * 900, " ", "<|im_end|>"])
_ids = st.sampled_from([*range(60, 80), LAST_TOKEN] * 4 + [LAST_TOKEN + 1])
_token_ids = st.lists(_ids, max_size=6)
_json = st.sampled_from(
    [
        "",
        "{}",
        '{"a": 123456789012345678901234567890}',
        r'{"a": "\ud800"}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"enable_thinking": false}',
        '{"messages": []}',
        '{"tools": 1, "bos_token": {}, "add_generation_prompt": []}',
        '{"a": ' + "9" * 5000 + "}",
        "[" * 5000,
    ]
) | st.just("")
_FORMATS: list[dict[str, Any]] = [
    {"json_schema": schema}
    for schema in ["{}", "true", "false", '{"type": "null"}', '{"const": "\\ud800"}', '{"$ref": "#"}', '{"type":["x"]}']
] + [
    {"regex": ""},
    {"regex": "a{0}"},
    {"regex": "(a|b)*"},
    {"regex": r"\p{Greek}{2}"},
    {"grammar": "start: start"},
    {"grammar": 'root ::= "a" root | "b"'},
    {"grammar": 'start: "a" b\nb: b'},
    {"grammar": "\0"},
    {},
]


@st.composite
def odd_requests(draw: st.DrawFn) -> pb.GenerateRequest:
    """A GenerateRequest. Most are legal; none may count as a fault of the endpoint that gets it."""
    n = draw(st.sampled_from([None, 1, 2, 3] * 6 + [128]))
    request = pb.GenerateRequest(
        n=n,
        seed=draw(st.none() | st.integers(0, 2**64 - 1)),
        priority=draw(st.integers(-100, 100)),
        device=draw(st.sampled_from(["", "auto", "cpu", "CPU", "Auto", "", "", "gpu"])),
        session_id=draw(st.text(max_size=3)),
    )
    _add_prompt(draw, request)
    _add_stop(draw, request)
    _add_sampling(draw, request.sampling)
    if draw(st.booleans()):
        request.logprobs.top = draw(st.sampled_from([0, 1, 20, 20, 21]))
    if draw(st.integers(0, 3)) == 3:
        request.format.CopyFrom(pb.OutputFormat(**draw(st.sampled_from(_FORMATS))))
    if draw(st.booleans()):
        _add_generated(draw, request, n or 1)
    return request


def _add_prompt(draw: st.DrawFn, request: pb.GenerateRequest) -> None:
    match draw(st.integers(0, 2)):
        case 0:
            request.text = draw(_texts)
        case 1:
            ids = draw(_token_ids)
            data = b"".join(token_id.to_bytes(4, "little") for token_id in ids)
            request.token_ids.CopyFrom(Tensor(dtype=DataType.DATA_TYPE_INT32, shape=[len(ids)], data=data))
        case _:
            roles = st.sampled_from(["user", "user", "system", "assistant", "tool"])
            for role in draw(st.lists(roles, min_size=1, max_size=3)):
                message = request.chat.messages.add(role=role, content=draw(_texts))
                if role == "assistant" and draw(st.booleans()):
                    message.tool_calls.add(id="1", name=draw(_texts), arguments_json=draw(_json))
            request.chat.template_kwargs_json = draw(_json)


def _add_stop(draw: st.DrawFn, request: pb.GenerateRequest) -> None:
    stop = request.stop
    stop.max_tokens = draw(st.sampled_from([1, 2, 3, 4] * 8 + [0, 100, 2**32 - 1]))
    stop.min_tokens = draw(st.sampled_from([0, 1, 600, 2**32 - 1]))
    stop.ignore_eos = draw(st.booleans())
    stop.strings.extend(draw(st.lists(_texts, max_size=3)))
    stop.token_ids.extend(draw(_token_ids | st.just(list(range(257)))))


def _add_sampling(draw: st.DrawFn, sampling: pb.SamplingParams) -> None:
    bounds: dict[str, tuple[float, float]] = {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "min_p": (0, 1),
        "repetition_penalty": (0, 2),
        "presence_penalty": (-2, 2),
        "frequency_penalty": (-2, 2),
    }
    for name in draw(st.lists(st.sampled_from(sorted(bounds)), max_size=3)):
        least, most = bounds[name]
        value: Any = draw(st.floats(least, most, width=32) | st.sampled_from([least, most, 1e-30, 1e-45]))
        setattr(sampling, name, value)
    if draw(st.booleans()):
        sampling.top_k = draw(st.sampled_from([0, 1, 3, 2**32 - 1]))
    sampling.logit_bias.update(draw(st.dictionaries(_ids, st.sampled_from([-100, 100, 0]), max_size=3)))


def _add_generated(draw: st.DrawFn, request: pb.GenerateRequest, n: int) -> None:
    """Continuations, in one of three forms: of some choices, of all of them, or of choices that there are not."""
    choices = draw(
        st.just(list(range(n)))
        | st.lists(st.integers(0, n - 1), max_size=3, unique=True)
        | st.sampled_from([[0], [n - 1], [0, 0, n]])
    )
    all_finished = draw(st.sampled_from([False, False, True]))
    for choice in choices:
        finished = all_finished or draw(st.booleans())
        request.generated.add(choice=choice, token_ids=draw(_token_ids), finished=finished)


def show(request: pb.GenerateRequest) -> str:
    """The request in words, for a failed test."""
    return json.dumps(str(request))[:2000]
