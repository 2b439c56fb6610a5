"""The sums of sent work are those of its leases, whatever comes and goes."""

import random
from collections import Counter

from infermesh_router.fleet.reports.sent_work import Lease, SentWork


def test_the_sums_are_those_of_the_leases() -> None:
    rng = random.Random(1)
    work, running, unreported, ended = SentWork(), set[Lease](), set[Lease](), list[tuple[float, Lease]]()
    for step in range(2000):
        now_s = float(step)
        if running and rng.random() < 0.45:
            lease = rng.choice(sorted(running, key=lambda lease: lease.since_s))
            assert work.remove(lease, now_s)
            assert not work.remove(lease, now_s)
            running.discard(lease)
            if lease in unreported:
                unreported.discard(lease)
            else:
                ended.append((now_s, lease))
        elif rng.random() < 0.1:
            newest_s = now_s - 3
            work.reported(newest_s)
            unreported = {lease for lease in unreported if lease.since_s > newest_s}
            ended = [(ended_s, lease) for ended_s, lease in ended if ended_s > newest_s]
        else:
            lease = Lease(rng.choice(["a", "b"]), rng.randrange(100), rng.randrange(1, 4), now_s)
            work.add(lease)
            running.add(lease)
            unreported.add(lease)
        _check(work, running, unreported, [lease for _, lease in ended])


def _check(work: SentWork, running: set[Lease], unreported: set[Lease], ended: list[Lease]) -> None:
    assert len(work) == len(running)
    for model in ("a", "b"):
        assert work.own[model] == sum(lease.sequences for lease in running if lease.model == model)
        assert work.tokens.get(model, 0) == sum(lease.prompt_tokens for lease in unreported if lease.model == model)
        sent = sum(lease.sequences for lease in unreported if lease.model == model)
        assert work.unseen[model] == sent - sum(lease.sequences for lease in ended if lease.model == model)
        assert (model in work.models) >= any(lease.model == model for lease in running)
    assert work.own_total == sum(lease.sequences for lease in running)
    assert work.tokens_total == sum(lease.prompt_tokens for lease in unreported)
    assert Counter(work.own) == Counter({model: count for model, count in work.own.items() if count})
