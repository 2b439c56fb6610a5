"""Measures what events and receipts add to each request: `python -m benchmarks.router.journal_cost`.

Prints one JSON document: microseconds for each part, the least of many short runs, so that other work counts little.
"""

import json
import time
import timeit
from collections.abc import Callable

import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.journal.journal import Journal
from infermesh_router.journal.receipts import Receipts
from infermesh_router.journal.story import Story
from infermesh_router.policy.choice import Choice, RunnerUp, choose
from infermesh_router.policy.model_load import ModelLoad
from infermesh_router.policy.scorers import finish_s
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.policy.table import Table
from infermesh_router.requests.neutral import NEUTRAL

REQUEST_ID = "8f887e1a-3e6d-48f0-98fc-e8ef81d36b44"
WANTED = Wanted(model="m", prompt_tokens=100, client="c" * 32)
CHOICE = Choice("127.0.0.1:8083", "equal", 10, 1.2, 3.4, (RunnerUp("127.0.0.1:8084", 1.0, 2.0),) * 3)
RUNS, REPEATS = 100, 300


def least_us(work: Callable[[], object]) -> float:
    """Microseconds of one run."""
    return round(min(timeit.repeat(work, number=RUNS, repeat=REPEATS)) / RUNS * 1e6, 2)


def tell_one(journal: Journal, receipts: Receipts, started: pb.Started, end: pb.Finished) -> None:
    """What the router does for one chat, beside serving it."""
    journal.chosen(REQUEST_ID, WANTED, CHOICE)
    story = Story(REQUEST_ID, since_s=time.perf_counter())
    story.noted_first()
    story.begun(started, CHOICE)
    story.ended([end], tokens=end.usage.completion_tokens)
    story.close(WANTED, call="Generate", asked=("temperature",), status="OK", error="")
    receipts.keep(story)


def table_of(endpoints: int) -> Table:
    loads = {"m": ModelLoad(prefill_tokens_per_s=1000.0, decode_tokens_per_s=100.0)}
    models = frozenset({"m"})
    return Table(
        EndpointSnapshot(address=f"h:{index}", models=models, ready_models=models, loads=loads)
        for index in range(endpoints)
    )


def main() -> None:
    in_use = pb.GenerationDefaults(sampling=NEUTRAL, max_tokens=20)
    started = pb.Started(model="m", prompt_tokens=100, seed=2**63, in_use=in_use)
    end = pb.Finished(usage=pb.Usage(prompt_tokens=100, completion_tokens=20), timings=pb.Timings(prompt_ms=3))
    journal, receipts = Journal(), Receipts()
    found = {"event_and_receipt_us": least_us(lambda: tell_one(journal, receipts, started, end))}
    for endpoints in (2, 1000):
        table, mask = table_of(endpoints), np.ones(endpoints, bool)
        found[f"choice_of_{endpoints}_us"] = least_us(lambda: choose(table, WANTED))  # noqa: B023 - it runs at once
        found[f"seconds_of_{endpoints}_us"] = least_us(lambda: finish_s(table, mask, WANTED))  # noqa: B023
    print(json.dumps(found))


if __name__ == "__main__":
    main()
