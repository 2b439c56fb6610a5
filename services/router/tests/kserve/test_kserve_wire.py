"""Messages read and written field by field: what comes is what was sent, and large tensors are copied once."""

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.infer.grpc_answer import write_grpc
from infermesh_router.kserve.infer.grpc_request import read_grpc, read_id, read_parts
from infermesh_router.kserve.infer.json_answer import write_rest
from infermesh_router.kserve.infer.json_request import read_json
from infermesh_router.kserve.infer.messages import infer_body, read_answer
from infermesh_router.kserve.tensors.datatypes import ITEM_BYTES, NAMES, TYPES
from infermesh_router.kserve.tensors.values import InferAnswer, InferAsk
from infermesh_router.kserve.tensors.wire import MAX_FIELDS, opening, set_apart
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.testing.copies import copies_during
from infermesh_router.testing.tensors import raw_request
from infermesh_runtime.errors import Internal, InvalidArgument, ModelNotFound

RAW = oip.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
LARGE = np.zeros((1024, 2048), np.float32)  # 8 MiB
texts = st.text(max_size=20)
tensors = st.builds(
    oip.ModelInferRequest.InferInputTensor, name=texts, datatype=texts, shape=st.lists(st.integers(-(2**63), 2**63 - 1))
)
requests = st.builds(
    oip.ModelInferRequest,
    model_name=texts,
    id=texts,
    inputs=st.lists(tensors, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=4),
)


@given(message=requests)
def test_a_message_is_its_parts(message: oip.ModelInferRequest) -> None:
    whole = message.SerializeToString()
    head, raw = set_apart(whole, RAW)
    assert [bytes(each) for each in raw] == list(message.raw_input_contents)
    rest = oip.ModelInferRequest.FromString(head)
    assert not rest.raw_input_contents
    again = b"".join((head, *(part for each in raw for part in (opening(RAW, len(each)), each))))
    assert oip.ModelInferRequest.FromString(again) == message


@given(message=st.binary(max_size=200))
def test_any_bytes_are_fields_or_refused(message: bytes) -> None:
    """Whatever protobuf itself accepts is read, and gives the same fields."""
    with suppress(InvalidArgument):
        set_apart(message, RAW)
    try:
        parsed = oip.ModelInferRequest.FromString(message)
    except DecodeError:
        return
    if not any(byte & 7 in (3, 4) for byte in message):  # groups, which nobody sends
        assert [bytes(each) for each in set_apart(message, RAW)[1]] == list(parsed.raw_input_contents)


@settings(max_examples=100)
@given(message=requests, at=st.integers(0, 2**16), byte=st.integers(0, 255))
def test_spoilt_requests_never_raise_anything_else(message: oip.ModelInferRequest, at: int, byte: int) -> None:
    spoilt = bytearray(message.SerializeToString() or b"\0")
    spoilt[at % len(spoilt)] = byte
    with suppress(InvalidArgument, ModelNotFound):
        infer_body(read_parts(*set_apart(bytes(spoilt), RAW)), "")


@given(message=requests)
def test_the_id_is_read_alone(message: oip.ModelInferRequest) -> None:
    whole = message.SerializeToString()
    assert read_id(whole) == message.id
    assert read_id(whole + b"\x1a\x05again") == "again"


def test_the_id_of_a_request_that_cannot_be_parsed_is_read() -> None:
    unparsable = b"\x2a\x01\xff"  # an input that is no message
    assert read_id(oip.ModelInferRequest(id="r1").SerializeToString() + unparsable) == "r1"
    for spoilt in (b"\x1a\x01\xff", b"\x1a\x05abc", b"\xff", b"\x1a\x00" * (MAX_FIELDS + 1)):
        assert read_id(spoilt) == ""


def test_messages_of_very_many_fields_are_refused_before_they_are_walked() -> None:
    with pytest.raises(InvalidArgument, match=f"more than {MAX_FIELDS} fields"):
        set_apart(b"\x1a\x00" * (MAX_FIELDS + 1), RAW)


async def test_typed_contents_of_very_many_fields_are_refused() -> None:
    pool = ParsingPool(processes=1)
    request = oip.ModelInferRequest(model_name="m")
    contents = oip.InferTensorContents(bytes_contents=[b""] * 200_000)
    request.inputs.add(name="x", datatype="BYTES", shape=[200_000], contents=contents)
    try:
        with pytest.raises(InvalidArgument, match="more than 125 fields"):
            await read_grpc(request.SerializeToString(), Bounds(values=1000), pool)
        assert len((await read_grpc(request.SerializeToString(), Bounds(), pool)).inputs[0].data) == 800_000
    finally:
        await pool.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_tensors = st.fixed_dictionaries(
    {"name": texts | json_values, "datatype": st.sampled_from([*TYPES, "X"]) | json_values, "shape": json_values},
    optional={"data": json_values, "parameters": json_values},
)


@settings(max_examples=100)
@given(
    document=st.fixed_dictionaries(
        {"inputs": st.lists(json_tensors, max_size=3) | json_values},
        optional={"outputs": json_values, "id": json_values},
    ),
    tail=st.binary(max_size=20),
)
def test_odd_json_never_raises_anything_else(document: Any, tail: bytes) -> None:
    with suppress(InvalidArgument):
        infer_body(read_json(json.dumps(document).encode(), "m", "", tail), "")


def test_every_type_has_a_name_and_a_size() -> None:
    assert {NAMES[number]: size for number, size in ITEM_BYTES.items()} == {
        **dict.fromkeys(("BOOL", "INT8", "UINT8", "FP8_E4M3", "FP8_E5M2"), 1),
        **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
        **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
        **dict.fromkeys(("INT64", "UINT64", "FP64"), 8),
    }


async def test_raw_tensors_are_copied_once_each_way() -> None:
    pool = ParsingPool(processes=1)
    message = raw_request(x=LARGE).SerializeToString()
    ask = await read_grpc(message, Bounds(), pool)
    body = infer_body(ask, "")
    assert pb.InferRequest.FromString(body).inputs[0].data == LARGE.tobytes()
    _, raw = set_apart(message, RAW)
    assert raw[0].obj is message
    assert copies_during(LARGE.nbytes, lambda: infer_body(read_parts(*set_apart(message, RAW)), "")) < 1.1

    answer_body = pb.InferResponse(outputs=pb.InferRequest.FromString(body).inputs).SerializeToString()
    answer = read_answer(answer_body, ask)
    assert isinstance(answer.outputs[0].data, memoryview)
    assert answer.outputs[0].data.obj is answer_body
    written: list[bytes] = []
    tracemalloc.start()
    written.append(await write_grpc(ask, read_answer(answer_body, ask), pool))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * LARGE.nbytes
    assert oip.ModelInferResponse.FromString(written[0]).raw_output_contents[0] == LARGE.tobytes()


async def test_binary_tensors_are_copied_once_over_rest() -> None:
    text = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1024,2048],"parameters":{"binary_data_size":8388608}}],'
    text += b'"parameters":{"binary_data_output":true}}'
    body = memoryview(text + LARGE.tobytes())
    ask = read_json(text, "m", "", body[len(text) :])
    assert copies_during(LARGE.nbytes, lambda: infer_body(ask, "")) < 1.1
    answer = InferAnswer("m", read_answer(_echo(ask), ask).outputs)
    made = await write_rest(ask, answer, ParsingPool(processes=1))
    assert copies_during(LARGE.nbytes, made.as_http_body) < 1.1


def _echo(ask: InferAsk) -> bytes:
    return pb.InferResponse(outputs=pb.InferRequest.FromString(infer_body(ask, "")).inputs).SerializeToString()


@pytest.mark.parametrize("body", [b"\xff", b"\x12\x03\x10\x63\x0a", b"\x12\x02\x10\x63"])
def test_a_wrong_answer_of_an_endpoint_is_internal(body: bytes) -> None:
    ask = read_json(b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}', "m", "")
    with pytest.raises(Internal):
        read_answer(body, ask)
