"""Aliases: the call they re-address, and how a split keeps to its weights."""

from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.aliases import Aliases, AliasTarget
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.generate import read_generate


def call(model: str, **fields: Any) -> Call:
    return read_generate(pb.GenerateRequest(model=model, text="hi", **fields).SerializeToString())


def test_an_alias_re_addresses_the_call_and_other_names_pass() -> None:
    aliases = Aliases({"fast": (AliasTarget(model="small"),)})
    resolved = aliases.resolve(call("fast", n=2))
    assert (resolved.wanted.model, resolved.wanted.alias, resolved.wanted.sequences) == ("small", "fast", 2)
    assert pb.GenerateRequest.FromString(resolved.body).model == "small"
    other = call("small")
    assert aliases.resolve(other) is other


@pytest.mark.parametrize("field", ["session_id", "client_id"])
def test_a_split_follows_its_weights_and_is_sticky(field: str) -> None:
    targets = {"split": (AliasTarget(model="a", weight=3), AliasTarget(model="b", weight=1))}
    chosen = [Aliases(targets).resolve(call("split", **{field: f"s{i}"})).wanted.model for i in range(1000)]
    assert 700 < chosen.count("a") < 800
    again = [Aliases(targets).resolve(call("split", **{field: f"s{i}"})).wanted.model for i in range(1000)]
    assert chosen == again


def test_a_split_draws_where_nobody_is_known() -> None:
    draws = iter([0.0, 0.74, 0.76, 0.999])
    aliases = Aliases({"s": (AliasTarget(model="a", weight=3), AliasTarget(model="b"))}, draw=lambda: next(draws))
    assert [aliases.resolve(call("s")).wanted.model for _ in range(4)] == ["a", "a", "b", "b"]


def test_members_of_a_client_keep_their_models() -> None:
    aliases = Aliases({"chat": (AliasTarget(model="a"), AliasTarget(model="b"))})
    calls = [call("chat").with_client("key", member=f"user-{number}") for number in range(64)]
    chosen = [aliases.resolve(each).wanted.model for each in calls]
    assert chosen == [aliases.resolve(each).wanted.model for each in calls]
    assert {"a", "b"} == set(chosen)
