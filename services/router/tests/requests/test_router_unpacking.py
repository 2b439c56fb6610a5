"""Compressed bodies are unpacked whatever their ratio, up to the limit of bytes and of time."""

import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
import zstandard
from google.api.httpbody_pb2 import HttpBody

from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import BodyConverter, Sent, convert_chat
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.requests.unpacking import unpack, unpack_small, unpacked_size
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted
from infermesh_runtime.rpc.limits.body_budget import BodyBudget

MIB = 1 << 20
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
RULES = BodyRules(ignore_unknown=False, max_bytes=4 * MIB, bounds=Bounds())
encodings = pytest.mark.parametrize("encoding", PACK)


def chat_of(spaces: int) -> bytes:
    body = json.dumps({"model": "m", "seed": 7, "messages": [{"role": "user", "content": "hi"}]})
    return (body + " " * (spaces - len(body))).encode()


def message(body: bytes) -> bytes:
    return bytes(HttpBody(data=body).SerializeToString())


class Caller:
    """The context of a call from one address."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return "ipv4:10.0.0.1:1"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[ParsingPool]:
    pool = ParsingPool(processes=1)
    yield pool
    await pool.close()


@encodings
def test_any_ratio_passes_up_to_the_limit(encoding: str) -> None:
    for body in (b"", b" " * MIB, random.Random(1).randbytes(100_000), b"ab" * 12345):
        packed = PACK[encoding](body)
        assert unpack(packed, encoding, max_bytes=MIB) == body
        assert unpacked_size(packed, encoding, max_bytes=MIB) == len(body)


@encodings
def test_one_byte_more_is_refused_with_the_limit(encoding: str) -> None:
    packed = PACK[encoding](b" " * (MIB + 1))
    for read in (unpack, unpacked_size):
        with pytest.raises(InvalidArgument, match=r"more than 1048576 \(1 MiB\)") as refused:
            read(packed, encoding, max_bytes=MIB)
        assert refused.value.reason == "REQUEST_TOO_LARGE"


@encodings
def test_several_members_are_one_body(encoding: str) -> None:
    pack = PACK[encoding]
    assert unpack(pack(b"a") + pack(b"") + pack(b"bc") * 3, encoding, max_bytes=100) == b"abcbcbc"


@encodings
@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b"{}", lambda _: b""])
def test_what_is_not_whole_is_refused(encoding: str, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidArgument, match=encoding) as refused:
        unpack(spoil(PACK[encoding](b"{}" * 100)), encoding, max_bytes=MIB)
    assert refused.value.reason == "INVALID_ENCODING"


def test_time_is_bounded_where_nothing_comes_out() -> None:
    empty_blocks = gzip.compress(b"")[:10] + b"\x00\x00\x00\xff\xff" * 10_000
    for data in (empty_blocks, gzip.compress(b"") * 1000):
        with pytest.raises(InvalidArgument, match="more than 0 s"):
            unpacked_size(data, "gzip", max_bytes=MIB, max_s=0)


@encodings
def test_little_is_unpacked_at_once_on_the_loop(encoding: str) -> None:
    assert unpack_small(PACK[encoding](b"x" * 1000), encoding, up_to_bytes=1000) == b"x" * 1000
    assert unpack_small(PACK[encoding](b"x" * 1001), encoding, up_to_bytes=1000) is None


@pytest.mark.asyncio(loop_scope="module")
@encodings
async def test_a_compressed_chat_becomes_the_same_job(pool: ParsingPool, encoding: str) -> None:
    converter = BodyConverter(pool, RULES)
    for size in (100, 4 * MIB):
        body = chat_of(size)
        job = (await converter.chat(message(PACK[encoding](body)), Sent(encoding=encoding))).job
        assert job.calls == convert_chat(message(body), RULES).job.calls
    with pytest.raises(InvalidArgument, match="more than 4194304"):
        await converter.chat(message(PACK[encoding](chat_of(4 * MIB + 1))), Sent(encoding=encoding))


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unknown_encoding_is_refused_by_name(pool: ParsingPool) -> None:
    with pytest.raises(InvalidArgument, match=r"gzip, deflate or zstd.*'br'") as refused:
        await BodyConverter(pool, RULES).chat(message(b"x"), Sent(encoding="br"))
    assert refused.value.reason == "UNSUPPORTED_ENCODING"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_body_becomes_counts_before_it_is_made(pool: ParsingPool) -> None:
    budget = BodyBudget(total_bytes=100 * MIB, client_bytes=8 * MIB)
    packed = message(gzip.compress(chat_of(4 * MIB)))
    with budget.expect(Caller()) as first, budget.expect(Caller()) as second:
        await BodyConverter(pool, RULES).chat(packed, Sent(encoding="gzip", share=first))
        assert budget.held_bytes == 12 * MIB
        with pytest.raises(ResourceExhausted, match="already take 12 of 8 MiB"):
            await BodyConverter(pool, RULES).chat(packed, Sent(encoding="gzip", share=second))
