"""What a request says of its own size is not believed where it cannot be true."""

from pathlib import Path

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.testing.keyed import generate
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import StartRouter, StartWorker


def ids(*shape: int) -> tensor_pb2.Tensor:
    """Two token ids, in a tensor that says it has this shape."""
    return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=shape, data=b"\0" * 16)


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [((2,), 2), ((-(2**40),), 0), ((2**62,), 16), ((), 0)],
    ids=list("abcd"),
)
def test_token_ids_are_no_more_than_their_bytes(shape: tuple[int, ...], tokens: int) -> None:
    request = pb.GenerateRequest(model="m", token_ids=ids(*shape))
    assert read_generate(request.SerializeToString()).wanted.prompt_tokens == tokens


def test_choices_count_up_to_the_contract_s_bound() -> None:
    request = pb.GenerateRequest(model="m", text="x", n=2**32 - 1)
    assert read_generate(request.SerializeToString()).wanted.sequences == 128


async def test_a_negative_prompt_refills_no_rate_limit(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    keys = write_keys_of(tmp_path / "keys.json", a={"tokens_per_minute": 12})
    router = await start_router(await start_worker(), keys_file=keys)
    await generate(router, bearer("a"), text="x" * 40)
    call = router.inference.Generate(pb.GenerateRequest(model="m", token_ids=ids(-1000)), metadata=bearer("a"))
    told = dict(await call.initial_metadata())
    assert int(told["x-ratelimit-remaining-tokens"]) < 12
