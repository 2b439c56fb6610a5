"""What a chooser remembers of prefixes, and how far that outweighs load."""

from infermesh_router.policy.choice import choose
from infermesh_router.policy.chooser import Chooser
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.testing.snapshots import measured


def test_a_prefix_goes_where_it_went_and_is_credited() -> None:
    chooser, blocks = Chooser(), tuple(range(1, 17))
    wanted = Wanted(model="m", blocks=blocks, prompt_tokens=1024)
    fleet = [measured("a"), measured("b"), measured("c")]
    first = chooser(fleet, wanted, turn=0)
    assert (first.reason, first.prompt_tokens) == ("prefix_hash", 1024)
    longer = Wanted(model="m", blocks=(*blocks, 99), prompt_tokens=1100)
    second = chooser(fleet, longer, turn=1)
    assert (second.address, second.prompt_tokens) == (first.address, 1100 - 1024)
    assert second.reason in {"prefix_affinity", "least_seconds_to_drain"}


def test_affinity_does_not_defeat_load_balance() -> None:
    wanted = Wanted(model="m", prompt_tokens=1000, blocks=(1,), cached_tokens={"a": 1000})
    assert choose([measured("a", sequences=4), measured("b")], wanted).address == "a"
    assert choose([measured("a", sequences=64), measured("b")], wanted).address == "b"
    unknown = Wanted(model="m", prompt_tokens=1000, blocks=(1,))
    hashed = choose([measured("a"), measured("b")], unknown).address
    busy = [measured(name, sequences=16 if name == hashed else 0) for name in "ab"]
    assert choose(busy, unknown).address != hashed


def test_two_routers_that_share_nothing_agree_on_a_prefix() -> None:
    fleet = [measured(f"10.0.0.{i}:1") for i in range(50)]
    for key in range(100):
        wanted = Wanted(model="m", blocks=(key * 7919,), prompt_tokens=64)
        one, other = Chooser()(fleet, wanted, turn=3), Chooser()(list(reversed(fleet)), wanted, turn=8)
        assert one.address == other.address
