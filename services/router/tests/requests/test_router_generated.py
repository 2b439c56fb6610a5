"""A request that has nothing left to run is refused before it is sent to an endpoint."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_runtime.errors import InvalidArgument


def ask(n: int | None, *finished: bool) -> bytes:
    parts = [pb.Continuation(choice=i, token_ids=[1], finished=ended) for i, ended in enumerate(finished)]
    return pb.GenerateRequest(text="x", n=n, generated=parts).SerializeToString()


@pytest.mark.parametrize(("n", "finished"), [(None, [True]), (1, [True]), (2, [True, True]), (1, [True, False])])
def test_every_choice_finished(n: int | None, finished: list[bool]) -> None:
    with pytest.raises(InvalidArgument, match="nothing to run") as caught:
        read_generate(ask(n, *finished))
    assert list(caught.value.fields) == ["generated"]


@pytest.mark.parametrize(("n", "finished"), [(None, []), (1, [False]), (2, [True]), (2, [True, False])])
def test_something_left(n: int | None, finished: list[bool]) -> None:
    assert read_generate(ask(n, *finished)).wanted.sequences == (n or 1)
