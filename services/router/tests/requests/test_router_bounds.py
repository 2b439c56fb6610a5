"""What requests may consist of, counted before anything is built of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests import bounds
from infermesh_router.requests.bounds import Bounds, count_fields, is_light_json, is_light_protobuf
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_runtime.errors import InvalidArgument

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab,"\\[{é'),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='a,"\\[', max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)
MIB = 1 << 20


def structure(value: object) -> tuple[int, int]:
    """Commas and opening brackets plus one, and opening brackets."""
    if not isinstance(value, dict | list):
        return 0, 0
    inner = [structure(part) for part in (value.values() if isinstance(value, dict) else value)]
    commas = max(0, len(value) - 1) + 1
    return commas + sum(count for count, _ in inner), 1 + sum(count for _, count in inner)


@given(document=JSON, ascii_only=st.booleans())
def test_json_is_counted_outside_its_strings(document: object, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    values, containers = structure(document)
    assert bounds._count_json(body) == (values + 1, containers)


def test_json_is_counted_across_chunks() -> None:
    text = '"' + "," * (3 * MIB + 1) + '\\"[' + '"'
    body = f"[{text},{text},[1,2]]".encode()
    assert bounds._count_json(body) == (6, 2)


@pytest.mark.parametrize(("item", "count"), [("[]", 600_000), ("1", 4_100_000)])
def test_a_body_of_too_many_values_is_refused(item: str, count: int) -> None:
    body = f'{{"x":[{",".join([item] * count)}]}}'.encode()
    with pytest.raises(InvalidArgument, match="values") as refused:
        Bounds().check_json(body)
    assert refused.value.reason == "REQUEST_TOO_COMPLEX"


def test_a_long_text_is_not_many_values() -> None:
    Bounds().check_json(json.dumps({"prompt": 'a, "b", [c] {d}\\ ' * MIB}).encode())


@given(st.lists(st.text(max_size=5), max_size=20))
def test_fields_of_a_message_are_counted_with_those_inside(texts: list[str]) -> None:
    messages = [pb.ChatMessage(role="user", content=text) for text in texts]
    request = pb.GenerateRequest(model="m", chat=pb.ChatPrompt(messages=messages), n=3)
    expected = 3 + len(texts) * 2 + sum(text != "" for text in texts)
    assert count_fields(request.SerializeToString(), pb.GenerateRequest, 1000) == expected


@given(st.binary(max_size=200))
def test_any_bytes_can_be_counted(body: bytes) -> None:
    assert 0 <= count_fields(body, pb.GenerateRequest, 50) <= 51


def test_a_message_of_too_many_fields_is_refused_without_being_parsed() -> None:
    request = pb.GenerateRequest(chat=pb.ChatPrompt(messages=[pb.ChatMessage()] * 600_000)).SerializeToString()
    with pytest.raises(InvalidArgument, match="more than 500000 fields"):
        Bounds().check_protobuf(request, pb.GenerateRequest)


def test_too_many_messages_are_refused_by_name() -> None:
    request = pb.GenerateRequest(chat=pb.ChatPrompt(messages=[pb.ChatMessage()] * 4)).SerializeToString()
    with pytest.raises(InvalidArgument, match="at most 3 are allowed") as refused:
        read_generate(request, Bounds(messages=3))
    assert list(refused.value.fields) == ["chat.messages"]


def test_what_stays_on_the_loop() -> None:
    prose = json.dumps({"messages": [{"role": "user", "content": "Some words, and others. " * 4000}]}).encode()
    assert is_light_json(prose)
    assert not is_light_json(prose * 3)
    assert not is_light_json(b'{"messages":[' + b",".join([b"{}"] * 3000) + b"]}")
    text = pb.GenerateRequest(text="x" * 200_000).SerializeToString()
    assert is_light_protobuf(text, pb.GenerateRequest)
    many = pb.GenerateRequest(chat=pb.ChatPrompt(messages=[pb.ChatMessage()] * 3000)).SerializeToString()
    assert not is_light_protobuf(many, pb.GenerateRequest)
