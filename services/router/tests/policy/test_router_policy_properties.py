"""What holds for every choice, score and table, on generated fleets."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infermesh_router.policy.choice import choose
from infermesh_router.policy.model_load import ModelLoad
from infermesh_router.policy.scorers import SCORERS, finish_s
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, Wanted
from infermesh_router.policy.table import Table
from infermesh_router.testing.snapshots import GB, M
from infermesh_runtime.errors import InfermeshError

loads = st.builds(
    ModelLoad,
    waiting_tokens=st.integers(0, 10**6),
    sequences=st.integers(0, 500),
    prefill_tokens_per_s=st.sampled_from([0.0, 0.01, 100.0, 1e9]),
    decode_tokens_per_s=st.sampled_from([0.0, 0.01, 100.0, 1e9]),
    kv_cache_usage=st.sampled_from([0.0, 0.3, 1.0]),
    max_running=st.sampled_from([0, 8]),
    full=st.booleans(),
)
snapshots = st.builds(
    EndpointSnapshot,
    address=st.sampled_from("abcdefgh"),
    connected=st.booleans(),
    device=st.sampled_from(list(DeviceKind)),
    models=st.sampled_from([M, frozenset()]),
    ready_models=st.sampled_from([M, frozenset()]),
    total=loads,
    loads=st.just({}) | st.fixed_dictionaries({"m": loads, "other": st.just(ModelLoad(sequences=4))}),
    full_models=st.sampled_from([M, frozenset()]),
    breaker_open=st.booleans(),
    model_sizes=st.sampled_from([{}, {"m": GB}]),
)

wanteds = st.builds(
    Wanted,
    model=st.just("m"),
    device=st.sampled_from(["", "gpu", "cpu", "a"]),
    prompt_tokens=st.integers(0, 10**5),
    blocks=st.sampled_from([(), (1, 2, 3)]),
    tried=st.frozensets(st.sampled_from("abc"), max_size=2),
    cached_tokens=st.dictionaries(st.sampled_from("abz"), st.integers(0, 10**5), max_size=2),
    preferred_device=st.sampled_from(["", "gpu", "cpu"]),
    preference_reason=st.just("size_rule"),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(snapshots, unique_by=lambda s: s.address, max_size=5), wanteds)
def test_a_choice_is_one_that_may_answer_or_a_clear_refusal(fleet: list[EndpointSnapshot], wanted: Wanted) -> None:
    try:
        choice = choose(fleet, wanted)
    except InfermeshError:
        return
    chosen = next(s for s in fleet if s.address == choice.address)
    assert chosen.connected
    assert "m" in chosen.ready_models
    assert not chosen.breaker_open
    assert chosen.address not in wanted.tried
    assert not chosen.load_of("m").full
    assert choice.reason
    assert 0 <= choice.prompt_tokens <= wanted.prompt_tokens


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(snapshots, unique_by=lambda s: s.address, min_size=1, max_size=5), wanteds)
def test_every_score_is_between_0_and_1(fleet: list[EndpointSnapshot], wanted: Wanted) -> None:
    table = Table(fleet)
    mask = table.serving("")
    if mask.any():
        seconds = finish_s(table, mask, wanted)
        given = seconds.copy()
        for scorer in SCORERS:
            scores = scorer.score(table, mask, wanted, seconds)
            assert scores is None or ((scores[mask] >= 0) & (scores[mask] <= 1)).all()
        assert (seconds == given).all(), "the choice tells them as they were"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(snapshots, min_size=1, max_size=12))
def test_a_table_that_follows_changes_is_as_one_made_anew(changes: list[EndpointSnapshot]) -> None:
    table = Table(EndpointSnapshot(address=address) for address in "abcdefgh")
    table.loads("m")
    for snapshot in changes:
        table.update(snapshot)
    fresh = Table(table)
    assert (table.serving("m") == fresh.serving("m")).all()
    assert (table.ready("m") == fresh.ready("m")).all()
    assert (table.usable == fresh.usable).all()
    assert table.loads("").drain_s.tolist() == pytest.approx([s.seconds_to_drain for s in table])
    ours = [s for s in table if "m" in s.models]
    columns, rows = table.loads("m"), table.serving("m")
    assert columns.drain_s[rows].tolist() == pytest.approx([s.drain_of("m")[0] for s in ours])
    assert columns.room[rows].tolist() == [s.load_of("m").room for s in ours]
    assert columns.is_measured == fresh.loads("m").is_measured
