"""Prompt blocks, and what the router believes of prefix caches."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2
from infermesh_router.policy.prefix.prefix_hash import (
    HASHED_BYTES,
    _begin_chat,
    hash_address,
    hash_blocks,
    hash_prompt,
    pick_by_hash,
    prefix_tokens,
    rehash_for_model,
)
from infermesh_router.policy.prefix.prefix_index import PrefixIndex
from infermesh_router.requests.kinds.generate import read_generate


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))


def test_hashes_are_the_same_in_every_process() -> None:
    assert hash_blocks(b"x" * 256) == (1391802645058184599,)
    assert hash_blocks(b"x" * 255) == ()


@given(st.binary(max_size=2000), st.binary(max_size=1000), st.binary(max_size=1000))
def test_prompts_share_the_hashes_of_what_they_share(prefix: bytes, one: bytes, other: bytes) -> None:
    hashes, others = hash_blocks(prefix + one), hash_blocks(prefix + other)
    assert common(hashes, others) >= len(prefix) // 256
    if one[:256] != other[:256] and len(prefix) % 256 == 0:
        assert common(hashes, others) == len(prefix) // 256


def test_the_longest_prompts_have_a_bounded_number_of_blocks() -> None:
    assert len(hash_blocks(b"x" * 10_000_000)) == 128
    assert prefix_tokens(128) > 40_000


def test_content_in_parts_counts() -> None:
    def of(**content: object) -> pb.GenerateRequest:
        return pb.GenerateRequest(chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", **content)]))  # type: ignore[arg-type]

    one, other = of(content_parts=["a" * 300, "b" * 300]), of(content_parts=["a" * 300, "c" * 300])
    assert hash_prompt(one) != hash_prompt(other)
    assert hash_prompt(one) == hash_prompt(of(content="a" * 300 + "\n" + "b" * 300))
    assert read_generate(one.SerializeToString()).wanted.prompt_tokens > 100


class CountingMessages:
    """Stands for a conversation; counts the messages that are read."""

    def __init__(self, messages: list[pb.ChatMessage]) -> None:
        self.tools: list[pb.Tool] = []
        self.read = 0
        self._messages = messages

    @property
    def messages(self) -> Iterator[pb.ChatMessage]:
        for message in self._messages:
            self.read += 1
            yield message


def test_only_the_beginning_of_a_long_conversation_is_read() -> None:
    messages = [pb.ChatMessage(role="user", content="x" * 10_000) for _ in range(100)]
    chat = CountingMessages(messages)
    beginning = _begin_chat(chat)  # type: ignore[arg-type]
    assert chat.read == 1 + HASHED_BYTES // 10_000
    whole = b"".join(f"user\0\0{message.content}\1".encode() for message in messages)
    assert whole.startswith(beginning)
    assert hash_blocks(beginning) == hash_blocks(whole)


@pytest.mark.parametrize("text", ["x" * 400_000, "é" * 200_000, "日本" * 100_000])
def test_what_is_beyond_the_hashed_bytes_changes_nothing(text: str) -> None:
    ids = np.arange(300_000, dtype="<i8").tobytes()
    for one, other in (
        (pb.GenerateRequest(text=text), pb.GenerateRequest(text=text + "more")),
        (
            pb.GenerateRequest(token_ids=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, data=ids)),
            pb.GenerateRequest(token_ids=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, data=ids + b"12345678")),
        ),
    ):
        assert hash_prompt(one) == hash_prompt(other)
        assert len(hash_prompt(one)) == 128
    assert hash_prompt(pb.GenerateRequest(text=text)) == hash_blocks(text.encode(), b"text")


def test_a_conversation_that_goes_on_begins_with_the_same_blocks() -> None:
    messages = [
        pb.ChatMessage(role="system", content="Be brief. " * 100),
        pb.ChatMessage(role="user", content="Why? " * 100),
    ]
    turn = hash_prompt(pb.GenerateRequest(model="m", chat=pb.ChatPrompt(messages=messages)))
    messages += [pb.ChatMessage(role="assistant", content="So. " * 100), pb.ChatMessage(role="user", content="And?")]
    later = hash_prompt(pb.GenerateRequest(model="m", chat=pb.ChatPrompt(messages=messages)))
    assert later[: len(turn)] == turn
    assert len(later) > len(turn)


def test_token_ids_of_either_type_are_the_same_prompt_and_models_are_not() -> None:
    ids = list(range(200))

    def request(dtype: tensor_pb2.DataType, numpy_type: str, model: str = "m") -> pb.GenerateRequest:
        data = np.array(ids, numpy_type).tobytes()
        return pb.GenerateRequest(model=model, token_ids=tensor_pb2.Tensor(dtype=dtype, shape=[200], data=data))

    narrow = hash_prompt(request(tensor_pb2.DATA_TYPE_INT32, "<i4"))
    assert len(narrow) == 3
    assert narrow == hash_prompt(request(tensor_pb2.DATA_TYPE_INT64, "<i8"))
    other = hash_prompt(request(tensor_pb2.DATA_TYPE_INT32, "<i4", model="o"))
    assert not set(narrow) & set(other)
    assert rehash_for_model(narrow, "m", "o") == other


def test_a_call_to_another_model_has_that_models_blocks() -> None:
    request = pb.GenerateRequest(model="m", text="x" * 1000)
    moved = read_generate(request.SerializeToString()).for_model("o")
    assert pb.GenerateRequest.FromString(moved.body).model == "o"
    request.model = "o"
    assert moved.wanted == read_generate(request.SerializeToString()).wanted


def test_rendezvous_moves_few_when_an_endpoint_goes() -> None:
    addresses = [f"10.0.0.{i}:1" for i in range(20)]
    hashes = np.array([hash_address(a) for a in addresses], np.uint64)
    moved = 0
    shares = [0] * 20
    for key in range(2000):
        blocks = hash_blocks(str(key).encode() * 300)
        before = pick_by_hash(hashes, blocks)
        shares[before] += 1
        after = pick_by_hash(hashes[:-1], blocks)
        moved += before != after
    assert moved == shares[-1]
    assert min(shares) > 50


def test_the_index_finds_the_longest_held_prefix_of_each() -> None:
    index = PrefixIndex()
    index.note((1, 2, 3, 4), "a")
    index.note((1, 2, 9), "b")
    assert index.find((1, 2, 3, 7)) == {"a": 192, "b": 128}
    assert index.find((5,)) == {}
    index.forget("a")
    assert index.find((1, 2, 3)) == {"b": 128}


def test_an_endpoints_oldest_blocks_go_when_its_cache_is_full() -> None:
    index = PrefixIndex()
    index.note(tuple(range(16)), "a", 1024)
    index.note((100, 101), "a", 1024)
    assert index.find((100, 101)) == {"a": 128}
    assert index.find(tuple(range(16))) == {"a": 14 * 64}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30), st.sampled_from("abcdef")), max_size=60))
def test_the_index_is_bounded_and_forgets_everything(notes: list[tuple[int, int, str]]) -> None:
    index = PrefixIndex(limit_blocks=100)
    for prompt, length, address in notes:
        index.note(hash_blocks(bytes([prompt]) * 256 * length), address)
        assert len(index) <= 100
    for address in "abcdef":
        index.forget(address)
    assert len(index) == 0
    assert all(index.find(hash_blocks(bytes([prompt]) * 256 * 30)) == {} for prompt in range(21))


@pytest.mark.parametrize("blocks", [(), (1,)])
def test_an_empty_index_knows_nothing(blocks: tuple[int, ...]) -> None:
    assert PrefixIndex().find(blocks) == {}


def test_prompts_of_other_salts_have_other_hashes() -> None:
    plain = pb.GenerateRequest(model="m", text="a" * 2000)
    salted = pb.GenerateRequest(model="m", text="a" * 2000, cache_salt="s")
    assert hash_prompt(salted) == hash_prompt(salted)
    assert not set(hash_prompt(salted)) & set(hash_prompt(plain))
