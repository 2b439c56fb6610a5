"""Receipts tell what became of requests, within a number and a size, and hold nothing of prompts or outputs."""

import pickle

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.journal.receipts import Receipts
from infermesh_router.journal.story import Story
from infermesh_router.policy.choice import Choice, RunnerUp
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.neutral import NEUTRAL

CHOICE = Choice("h:1", "equal", 7, 1.5, 0.8, (RunnerUp("h:2", 1.2, 4.1),))


def sampling(**changes: float) -> pb.SamplingParams:
    made = pb.SamplingParams()
    made.CopyFrom(NEUTRAL)
    made.MergeFrom(pb.SamplingParams(**changes))  # type: ignore[arg-type] # its fields are numbers
    return made


def told(request_id: str, *, client: str = "", asked: tuple[str, ...] = (), **changes: float) -> Story:
    """The story of a call that ended well."""
    now_s = iter([10.0, 10.25, 11.0])
    story = Story(request_id, since_s=10.0, ignored=("user",), clock=lambda: next(now_s, 11.0))
    in_use = pb.GenerationDefaults(sampling=sampling(**changes), max_tokens=9)
    in_use.sampling.bad_words.append("secret")
    started = pb.Started(
        model="m", device=pb.DEVICE_KIND_CUDA, prompt_tokens=5, seed=2**63, queued_ms=3, prompt_text="secret"
    )
    started.in_use.CopyFrom(in_use)
    started.ignored_fields.append("tools")
    story.noted_first()
    story.begun(started, CHOICE)
    usage = pb.Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=1)
    end = pb.Finished(finish_reason=pb.FINISH_REASON_LENGTH, usage=usage, stop="secret")
    end.timings.prompt_ms, end.timings.completion_ms = 4, 8
    story.ended([end, pb.Finished(choice=1, finish_reason=pb.FINISH_REASON_STOP, usage=usage)], tokens=4)
    story.close(Wanted(model="m", client=client), call="Generate", asked=asked, status="OK", error="")
    return story


def test_it_tells_all() -> None:
    receipts = Receipts()
    receipts.keep(told("r"))
    receipt = receipts.find("r", None)
    assert receipt is not None
    assert (receipt.endpoint, receipt.device, receipt.reason) == ("h:1", "cuda", "equal")
    assert [(each.endpoint, each.score, each.seconds) for each in receipt.runners_up] == [("h:2", 1.2, 4.1)]
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.cached_tokens) == (5, 4, 2)
    assert (receipt.first_token_ms, receipt.total_ms, receipt.queued_ms) == (0, 250, 3)
    assert (receipt.prefill_ms, receipt.decode_ms, receipt.seed) == (4, 8, 2**63)
    assert list(receipt.ignored_fields) == ["user", "tools"]
    assert list(receipt.finish_reasons) == ["length", "stop"]


def test_each_sampling_value_has_its_source() -> None:
    receipts = Receipts()
    receipts.keep(told("r", asked=("temperature", "max_tokens"), temperature=0.3, top_k=20))
    receipt = receipts.find("r", None)
    assert receipt is not None
    values = {each.name: (each.value, each.source) for each in receipt.sampling}
    assert values["temperature"] == (0.3, "request")
    assert values["top_k"] == (20, "model")
    assert values["top_p"] == (1, "built-in")
    assert values["max_tokens"] == (9, "request")


def test_it_holds_nothing_of_prompt_or_output() -> None:
    story = told("r")
    story.__dict__.pop("_clock")
    assert b"secret" not in pickle.dumps(story.__dict__)
    assert b"temperature" in pickle.dumps(told("r", asked=("temperature",)).asked), "the search finds what is there"


def test_the_number_is_bounded() -> None:
    receipts = Receipts(most=3)
    for number in range(10):
        receipts.keep(told(str(number)))
    assert [receipt.request_id for receipt in receipts.newest(9, None)] == ["9", "8", "7"]
    assert receipts.find("6", None) is None
    assert [receipt.request_id for receipt in receipts.newest(1, None)] == ["9"]


def test_the_memory_is_bounded_whatever_clients_send() -> None:
    receipts = Receipts(most=10_000, most_bytes=100_000)
    for number in range(200):
        story = Story(str(number), ignored=[f"{index}" * 1000 for index in range(1000)])
        wanted = Wanted(model="m" * 100_000, alias="a" * 100_000)
        story.close(wanted, call="Generate", asked=(), status="NOT_FOUND", error="MODEL_NOT_FOUND")
        receipts.keep(story)
    assert receipts.size_bytes <= 100_000
    story.__dict__.pop("_clock")
    assert len(receipts) * len(pickle.dumps(story.__dict__)) <= 100_000


def test_none_are_kept_if_none_are_wanted() -> None:
    receipts = Receipts(most=0)
    receipts.keep(told("r"))
    assert receipts.find("r", None) is None


def test_callers_see_their_own() -> None:
    receipts = Receipts()
    receipts.keep(told("a", client="key a"))
    receipts.keep(told("b", client="key b"))
    assert receipts.find("a", "key a") is not None
    assert receipts.find("a", "key b") is None
    assert [receipt.request_id for receipt in receipts.newest(9, "key b")] == ["b"]
    assert len(receipts.newest(9, None)) == 2


def test_prompts_of_one_request_have_one_receipt() -> None:
    receipts = Receipts()
    for _ in range(3):
        receipts.keep(told("r"))
    receipt = receipts.find("r", None)
    assert receipt is not None
    assert len(receipt.others) == 2
