"""Writes the receipt of a call that has ended, from its story."""

from infermesh.inference.v1 import inference_pb2 as inference
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.journal.story import Story
from infermesh_router.requests.float32 import shorten
from infermesh_router.requests.neutral import NEUTRAL

_NAMES = tuple(field.name for field, _ in NEUTRAL.ListFields())
_FINISH_REASONS = {
    inference.FINISH_REASON_STOP: "stop",
    inference.FINISH_REASON_LENGTH: "length",
    inference.FINISH_REASON_TOOL_CALLS: "tool_calls",
    inference.FINISH_REASON_CANCELLED: "cancelled",
}


def write_receipt(story: Story) -> pb.Receipt:
    """The receipt."""
    receipt = pb.Receipt(
        request_id=story.request_id,
        call=story.call,
        model=story.model,
        alias=story.alias,
        status=story.status,
        error=story.error,
        queued_ms=_ms(story.queued_s),
        loading_ms=_ms(story.loading_s),
        overhead_ms=_ms(story.overhead_s),
        first_token_ms=_ms(story.first_token_s),
        prefill_ms=round(story.prefill_ms, 3),
        decode_ms=round(story.decode_ms, 3),
        total_ms=_ms(story.total_s),
        prompt_tokens=story.prompt_tokens,
        completion_tokens=story.completion_tokens,
        cached_tokens=story.cached_tokens,
        seed=story.seed,
        ignored_fields=story.ignored,
        finish_reasons=[_FINISH_REASONS.get(reason, "stop") for reason in story.finish_reasons],
        sampling=_sampling(story),
    )
    receipt.arrived_at.FromMilliseconds(round(1000 * (story.ended_s - story.total_s)))
    for endpoint, reason in story.retries:
        receipt.retries.add(endpoint=endpoint, reason=reason)
    for move, after_tokens, at_s in story.moves:
        receipt.failovers.add(
            from_endpoint=move.from_endpoint,
            to_endpoint=move.to_endpoint,
            reason=move.reason,
            after_tokens=after_tokens,
            at_ms=_ms(at_s),
        )
    _tell_choice(receipt, story)
    return receipt


def _tell_choice(receipt: pb.Receipt, story: Story) -> None:
    choice = story.choice
    if choice is None:
        return
    receipt.endpoint, receipt.device, receipt.reason = choice.address, story.device.value, choice.reason
    receipt.score, receipt.seconds = choice.score, choice.seconds
    for each in choice.runners_up:
        receipt.runners_up.add(endpoint=each.endpoint, score=each.score, seconds=each.seconds)


def _sampling(story: Story) -> list[pb.SamplingValue]:
    """Each parameter with who set it. A model's default that is the neutral value counts as built in."""
    if not story.sampling:
        return []
    in_use = inference.GenerationDefaults.FromString(story.sampling)
    told = []
    for name in _NAMES:
        value, neutral = getattr(in_use.sampling, name), getattr(NEUTRAL, name)
        source = "request" if name in story.asked else "built-in" if value == neutral else "model"
        told.append(pb.SamplingValue(name=name, value=shorten(value), source=source))
    if in_use.HasField("max_tokens"):
        source = "request" if "max_tokens" in story.asked else "model"
        told.append(pb.SamplingValue(name="max_tokens", value=in_use.max_tokens, source=source))
    return told


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
