"""Tests of the context that handlers get."""

from typing import Any, cast

from infermesh_runtime.rpc.context import RpcContext

METADATA = (("x-request-id", "r"), ("authorization", "Bearer k"))


class Counting:
    """gRPC's context, which makes the metadata anew for everybody who asks."""

    def __init__(self, metadata: tuple[tuple[str, str], ...] | None) -> None:
        self.made = 0
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...] | None:
        self.made += 1
        return self._metadata


def test_the_metadata_of_a_call_is_made_once() -> None:
    inner = Counting(METADATA)
    context = RpcContext(cast("Any", inner), "r")
    assert [context.invocation_metadata() for _ in range(3)] == [METADATA] * 3
    assert inner.made == 1


def test_a_call_may_have_no_metadata() -> None:
    assert RpcContext(cast("Any", Counting(None)), "r").invocation_metadata() == ()
