"""The journal keeps the last events, each encoded once, with the fields that mesh.proto says."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.journal.journal import Event, Journal
from infermesh_router.policy.choice import Choice, RunnerUp
from infermesh_router.policy.snapshot import Wanted

CHOICE = Choice("h:1", "equal", 7, 1.5, 0.8, (RunnerUp("h:2", 1.2, 4.1),))


def choose(journal: Journal, name: str = "a", client: str = "") -> None:
    journal.chosen(name, Wanted(model="m", client=client), CHOICE)


def test_it_keeps_the_last_events_only() -> None:
    journal = Journal(kept=3)
    for number in range(10):
        choose(journal, str(number))
    assert journal.count == 10
    assert [event.number for event in journal.since(0)] == [7, 8, 9]
    assert [event.data["request_id"] for event in journal.since(8)] == ["8", "9"]
    assert journal.since(10) == []


def test_listeners_share_one_encoding() -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"a": 1}

    event = Event("a1", 0, "choice", make, client="", model="")
    assert not made, "nothing is encoded before somebody reads"
    assert event.encoded is event.encoded
    assert made == [1]
    assert event.encoded == b'event: choice\nid: a1-1\ndata: {"a":1}\n\n'


def test_a_choice_tells_what_the_contract_says() -> None:
    journal = Journal(clock=lambda: 5.0)
    choose(journal, "id", client="key a")
    (event,) = journal.since(0)
    told = ParseDict(json.loads(event.encoded.partition(b"data: ")[2]), pb.ChoiceEvent())
    runners_up = [pb.Candidate(endpoint="h:2", score=1.2, seconds=4.1)]
    assert told == pb.ChoiceEvent(
        time=5,
        request_id="id",
        model="m",
        endpoint="h:1",
        reason="equal",
        score=1.5,
        seconds=0.8,
        runners_up=runners_up,
    )
    assert (event.client, event.model) == ("key a", "m")


@pytest.mark.parametrize(
    ("kind", "message", "fields"),
    [
        ("failover", pb.FailoverEvent(), {"request_id": "r", "model": "m", "from_endpoint": "a", "after_tokens": 3}),
        ("restart", pb.RestartEvent(), {"endpoint": "a", "what": "engine", "model": "m"}),
        (
            "state",
            pb.StateEvent(),
            {"endpoint": "a", "state": "ready", "before": "", "breaker": "open", "message": ""},
        ),
    ],
)
def test_other_events_tell_what_the_contract_says(kind: str, message: Any, fields: dict[str, Any]) -> None:
    journal = Journal()
    journal.note(kind, **fields)
    (event,) = journal.since(0)
    ParseDict(dict(event.data), message)
    assert event.data.items() >= fields.items()
