"""Makes requests that a hostile or confused client might send: bodies, headers, paths and gRPC messages."""

import json
from typing import Any

from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.testing.images import DATA_URL
from infermesh_router.testing.keys import secret_of

Drawn = st.SearchStrategy[Any]

_SCHEMAS: tuple[dict[str, Any], ...] = ({}, {"type": "object"}, {"type": "string", "maxLength": 3}, {"type": "?"})
_NAMES = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields})
_DEVICES = ["", "auto", "cpu", "cpu", "cpu", "gpu", "cuda", "cpu,xpu", "127.0.0.1:1", "nonsense"]

_odd = st.sampled_from(["", "gpu", "auto", "127.0.0.1:1", "\0", "😀", "<string>", "a.b[0]"])
_numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
anything: Drawn = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(max_size=20) | _odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)

_word = st.text(min_size=1, max_size=8)
_structured = [{"regex": "a|b"}, {"regex": "("}, {"choice": ["x", "]"]}, {"grammar": "?"}]
_formats = [{"type": "json_schema", "json_schema": {"name": "x", "schema": schema}} for schema in _SCHEMAS]
_FIELDS: dict[str, Drawn] = {
    "add_generation_prompt": st.booleans(),
    "best_of": st.integers(1, 2),
    "chat_template_kwargs": st.dictionaries(_word, anything, max_size=2),
    "device": st.sampled_from(_DEVICES),
    "logit_bias": st.dictionaries(st.integers(0, 260).map(str), st.floats(-101, 101), max_size=3),
    "logprobs": st.booleans() | st.integers(0, 21),
    "n": st.integers(1, 3) | st.sampled_from([0, 1, 2, 128, 129]),
    "priority": st.integers(-(2**31) + 1, 2**31) | st.integers(0, 5),
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}, *_formats]),
    "seed": st.integers(-(2**65), 2**65),
    "session_id": _word,
    "stop": _word | st.lists(_word, max_size=17),
    "stop_token_ids": st.lists(st.integers(0, 260), max_size=3),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "structured_outputs": st.sampled_from(_structured),
    "temperature": st.floats(0, 2.1),
    "top_k": st.integers(-1, 5),
    "top_logprobs": st.integers(0, 21),
    "top_p": st.floats(0, 1.1),
    "user": _word,
}
"""Values of fields that are mostly valid."""

_urls = st.sampled_from([DATA_URL, DATA_URL[:40], "data:image/png;base64,", "http://127.0.0.1/", "http://[::1", "x"])
_part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", ""])},
    optional={"text": anything, "image_url": _urls | st.fixed_dictionaries({"url": _urls}) | anything},
)
_roles = st.sampled_from(["system", "user", "assistant", "tool", "developer", "", "root"])
_message = anything | st.fixed_dictionaries(
    {"role": _roles, "content": st.text(max_size=20) | st.lists(_part, max_size=2) | anything},
    optional={"name": anything, "tool_calls": anything, "tool_call_id": anything, "refusal": anything},
)
_good_message = st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": _word})
_conversations = st.lists(_good_message, min_size=1, max_size=3)
_token_ids = st.lists(st.text(max_size=5) | st.integers(-1, 2**33), max_size=3)
_texts = _word | st.lists(_word, min_size=1, max_size=3)
_models = st.sampled_from(["simulated"] * 12 + ["", "none", "a/b", "\0"])
_PROMPTS = {
    "/v1/chat/completions": ("messages", _conversations, st.lists(_message, max_size=3) | anything),
    "/v1/completions": ("prompt", _texts, _token_ids | anything),
}
"""Path → the field with the prompt, good values of it, and others."""


def _chance(draw: st.DrawFn, one_in: int) -> bool:
    return draw(st.integers(0, one_in - 1)) == one_in - 1  # small numbers, so the usual case, are tried first


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """A body for the path. About half are valid; the others have wrong fields, or are cut, or no JSON."""
    if _chance(draw, 10):
        return draw(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
    name, good, others = _PROMPTS[path]
    body = {
        "model": draw(_models),
        name: draw(others if _chance(draw, 4) else good),
        "max_tokens": draw(st.integers(1, 5)),
    }
    if draw(st.booleans()):
        body["stream"] = draw(st.booleans())
    for field in draw(st.lists(st.sampled_from(sorted(_FIELDS)), max_size=3)):
        body[field] = draw(_FIELDS[field])
    if _chance(draw, 4):
        body[draw(st.sampled_from(_NAMES) | st.text(max_size=8))] = draw(anything)
    text = json.dumps(body).encode()
    if not _chance(draw, 8):
        return text
    cut = draw(st.integers(0, len(text)))
    return text[:cut] + draw(st.binary(max_size=3)) + text[cut + draw(st.integers(0, 3)) :]


_printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
_header_names = st.sampled_from(
    ["x-request-id", "traceparent", "x-api-key", "grpc-status", "te", "accept-encoding", "x-forwarded-for", "x-bin"]
) | st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(lambda name: f"x-{name}")
_KEYED = {"authorization": f"Bearer {secret_of('fuzz')}"}
headers: Drawn = st.sampled_from([_KEYED] * 9 + [{}, {"x-api-key": secret_of("fuzz")}, {"authorization": "Basic x"}])
all_headers: Drawn = st.builds(
    lambda more, own: {**more, **own}, st.dictionaries(_header_names, _printable, max_size=3), headers
)
_known_paths = st.sampled_from(["/health", "/metrics", "/v1/models", "/v1/models/simulated"])
_url_characters = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#")
paths: Drawn = st.one_of(
    _known_paths,
    _known_paths,
    st.sampled_from(["/", "/v1/models/%ff", "/v1", "/health/", "/metrics?x=1", "/v1/models/simulated%00"]),
    st.text(_url_characters, max_size=30).map(lambda text: f"/{text}"),
    st.binary(min_size=1, max_size=12).map(lambda raw: "/v1/models/" + "".join(f"%{byte:02x}" for byte in raw)),
)
methods: Drawn = st.sampled_from(["GET"] * 8 + ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])


@st.composite
def generate_messages(draw: st.DrawFn) -> bytes:
    """A serialised GenerateRequest, mostly one that could be valid, or bytes that are none."""
    if _chance(draw, 6):
        return draw(st.binary(max_size=100))
    request = pb.GenerateRequest(
        model=draw(st.sampled_from(["simulated"] * 8 + ["", "none"])),
        device=draw(st.sampled_from(_DEVICES)),
        priority=draw(st.integers(-(2**31), 2**31 - 1)),
        client_id=draw(st.text(max_size=5)),
        n=draw(st.none() | st.integers(1, 3) | st.integers(0, 140)),
    )
    request.stop.max_tokens = draw(st.integers(1, 5) | st.integers(0, 2**32 - 1))
    request.sampling.temperature = draw(st.floats(0, 2, width=32) | st.floats(width=32))
    if _chance(draw, 4):
        biases = st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32), max_size=2)
        request.sampling.logit_bias.update(draw(biases))
    _add_prompt(draw, request)
    if _chance(draw, 4):
        request.generated.add(choice=draw(st.integers(0, 3)), token_ids=draw(st.lists(st.integers(0, 300), max_size=3)))
    return request.SerializeToString()


def _add_prompt(draw: st.DrawFn, request: pb.GenerateRequest) -> None:
    match draw(st.integers(0, 3)):
        case 0:
            request.text = draw(st.text(max_size=30))
        case 1:
            request.chat.messages.add(role=draw(_roles), content=draw(st.text(max_size=5)))
            request.chat.template_kwargs_json = draw(st.sampled_from(["", "", "{}", "[", "[1]"]))
        case 2:
            dtype: Any = draw(st.integers(-1, 30))  # of an open enum
            shape = draw(st.lists(st.integers(-3, 2**40), max_size=3))
            request.token_ids.CopyFrom(tensor_pb2.Tensor(dtype=dtype, shape=shape, data=draw(st.binary(max_size=40))))
