"""Images in prompts: which blocks they tell apart, where chunks end, and which tokens get which features."""

from collections.abc import Callable

import numpy as np
import pytest

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.runners.images import runs_of
from infermesh_engine.runners.runner import Batch, RunnerInfo
from infermesh_engine.scheduling.batch_builder import BatchBuilder
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.plan import Draft, Plan, PrefillChunk
from infermesh_engine.scheduling.prompt_images import PromptImages
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence

BLOCK = 4
Make = Callable[..., Sequence]


def image(
    *spans: tuple[int, int], digest: bytes = b"1", grid: tuple[int, int] = (0, 0), pixels: object = None
) -> PromptImage:
    return PromptImage(data=b"file", digest=digest, spans=spans, grid=grid, pixels=pixels)


@pytest.fixture
def make_seen(make_sequence: Make) -> Make:
    """Builds a sequence of 24 equal prompts' tokens with images."""

    def make(*images: PromptImage, request_id: str = "a", tokens: int = 24) -> Sequence:
        sequence = make_sequence(tuple(range(tokens)), request_id=request_id)
        sequence.images = PromptImages(images) if images else None
        return sequence

    return make


def matched(cache: KvCache, sequence: Sequence) -> int:
    return len(cache.match(sequence))


def test_blocks_are_shared_up_to_another_image(make_seen: Make) -> None:
    cache = KvCache(num_blocks=16, block_size=BLOCK, prefix_caching=True)
    first = make_seen(image((5, 7), (9, 11)), image((14, 15), digest=b"2"))
    cache.allocate(first, [])
    first.computed = first.num_tokens
    cache.publish(first)
    assert matched(cache, make_seen(image((5, 7), (9, 11)), image((14, 15), digest=b"2"))) == 5
    assert matched(cache, make_seen(image((5, 7), (9, 11)), image((14, 15), digest=b"3"))) == 3
    assert matched(cache, make_seen(image((5, 7), (9, 11), digest=b"2"), image((14, 15)))) == 1
    assert matched(cache, make_seen()) == 1


def info(*, rope: bool = False) -> RunnerInfo:
    return RunnerInfo(
        device_kind="cpu",
        device_name="",
        memory_total_bytes=0,
        runtime="",
        vocab_size=100,
        context_length=64,
        block_size=BLOCK,
        num_blocks=64,
        weights_bytes=0,
        takes_images=True,
        image_rope=rope,
    )


def test_a_batch_says_which_tokens_get_which_features(make_seen: Make, make_sequence: Make) -> None:
    cache = KvCache(num_blocks=64, block_size=BLOCK, prefix_caching=False)
    other, seen = make_sequence((7, 8, 9)), make_seen(image((2, 6), (8, 10)), image((12, 14)))
    for sequence in (other, seen):
        cache.allocate(sequence, [])
    seen.computed = 4
    builder = BatchBuilder(max_batched_tokens=64, max_sequences=4, info=info())
    batch: Batch = builder.build(Plan([], [PrefillChunk(other, 3), PrefillChunk(seen, 9)]), [other])
    told = [(rows.held, rows.first, rows.tokens.tolist(), rows.ends_image) for rows in batch.images]
    assert seen.images is not None
    one, two = seen.images.held
    assert told == [(one, 2, [3, 4, 7, 8], True), (two, 0, [11], False)]
    assert runs_of(batch.images) == [(3, 4), (7, 8), (11, 11)]
    assert batch.rope is None


def test_rotary_positions_follow_the_grid_of_an_image(make_seen: Make, make_sequence: Make) -> None:
    cache = KvCache(num_blocks=64, block_size=BLOCK, prefix_caching=False)
    seen = make_seen(image((2, 8), grid=(2, 3)), image((9, 11), grid=(1, 2)), tokens=14)
    decode, text = make_sequence((1, 2, 3)), make_sequence((1, 2, 3, 4))
    for sequence in (seen, decode, text):
        cache.allocate(sequence, [])
    decode.computed = 2
    builder = BatchBuilder(max_batched_tokens=64, max_sequences=4, info=info(rope=True))
    batch = builder.build(Plan([decode], [PrefillChunk(seen, 14), PrefillChunk(text, 4)]), [decode, seen, text])
    assert batch.rope is not None
    want = [
        [2, 0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 6, 8, 9, 10, 0, 1, 2, 3],
        [2, 0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 6, 8, 9, 10, 0, 1, 2, 3],
        [2, 0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2, 3],
    ]
    assert batch.rope.tolist() == want
    assert seen.images is not None
    for cut in range(15):  # the same whatever the chunks
        halves = [seen.images.rope(0, cut), seen.images.rope(cut, 14)]
        assert np.array_equal(np.concatenate(halves, axis=1), np.array(want)[:, 1:15])
    assert seen.images.rope(20, 21).tolist() == [[17]] * 3  # a generated token
    assert builder.build(Plan([decode], []), [decode]).rope is None
    seen.computed = 13
    rope = builder.build(Plan([decode, seen], []), [decode, seen]).rope
    assert rope is not None
    assert rope.tolist() == [[2, 10]] * 3
    guessed = builder.build(Plan([decode], [], [Draft(seen, (5, 6))]), [decode, seen]).rope
    assert guessed is not None
    assert guessed.tolist() == [[2, 10, 11, 12]] * 3


def test_no_chunk_ends_inside_an_image_that_must_be_whole(make_seen: Make) -> None:
    cache = KvCache(num_blocks=64, block_size=BLOCK, prefix_caching=False)
    scheduler = Scheduler(cache, max_sequences=4, max_batched_tokens=8, whole_images=True)
    seen, after = make_seen(image((3, 9)), image((16, 23))), make_seen(request_id="b", tokens=3)
    for sequence in (seen, after):
        scheduler.add(sequence)
    steps = []
    for _ in range(8):
        plan = scheduler.schedule()
        if plan.is_empty:
            break
        steps.append([(chunk.sequence.request_id, chunk.tokens) for chunk in plan.prefills])
        scheduler.commit(plan)
        for sequence in plan.sampled:
            scheduler.remove(sequence)
    assert steps == [[("a", 3), ("b", 3)], [("a", 8)], [("a", 5)], [("a", 8)]]


def test_an_image_that_exceeds_a_lowered_budget_still_runs_or_fails(make_seen: Make) -> None:
    cache = KvCache(num_blocks=64, block_size=BLOCK, prefix_caching=False)
    scheduler = Scheduler(cache, max_sequences=4, max_batched_tokens=12, whole_images=True)
    seen = make_seen(image((0, 10)))
    scheduler.add(seen)
    plan = scheduler.schedule()
    assert plan.prefill_tokens == 12
    assert scheduler.shrink(plan) is None
    plan = scheduler.schedule()
    assert plan.prefill_tokens == 10  # more than the six tokens of the lowered budget
    assert scheduler.shrink(plan) is seen


def prefill(scheduler: Scheduler, *sequences: Sequence) -> None:
    """Computes the prompts of sequences, which stay."""
    for sequence in sequences:
        scheduler.add(sequence)
    scheduler.commit(scheduler.schedule())


@pytest.mark.parametrize(("min_run", "second"), [(1, None), (2, None), (3, "two")])
def test_pixels_of_images_in_the_cache_are_forgotten_at_once(make_seen: Make, min_run: int, second: object) -> None:
    """Those whose last tokens are fed again are kept."""
    cache = KvCache(num_blocks=64, block_size=BLOCK, prefix_caching=True)
    scheduler = Scheduler(cache, max_sequences=4, max_batched_tokens=64, min_run_tokens=min_run)
    images = [image((5, 7), pixels="one"), image((12, 19), digest=b"2", pixels="two")]
    first, again = make_seen(*images), make_seen(*images, image((20, 22), digest=b"3", pixels="three"), request_id="b")
    prefill(scheduler, first)
    prefill(scheduler, again)
    assert again.computed == 24
    assert again.images is not None
    assert [held.pixels for held in again.images.held] == [None, second, "three"]


def choices_of(make_sequence: Make, *images: PromptImage) -> tuple[Sequence, Sequence]:
    """Two choices of a request, whose images are one; the second follows the first."""
    leader, follower = (make_sequence(tuple(range(24)), choice=choice) for choice in range(2))
    leader.images = follower.images = PromptImages(images)
    leader.followers = [follower]
    return leader, follower


def test_features_stay_until_the_last_choice_that_needs_them_has_passed(make_sequence: Make) -> None:
    """Choices share the blocks up to token 20."""
    cache = KvCache(num_blocks=64, block_size=BLOCK, prefix_caching=True)
    scheduler = Scheduler(cache, max_sequences=4, max_batched_tokens=64)
    builder = BatchBuilder(max_batched_tokens=64, max_sequences=4, info=info())
    leader, follower = choices_of(make_sequence, image((3, 7)), image((18, 22), digest=b"2"))
    assert leader.images is not None
    shared, last = leader.images.held
    scheduler.add(leader)
    steps = []
    for _ in range(2):
        plan = scheduler.schedule()
        batch = builder.build(plan, plan.sampled)
        for rows in batch.images:
            rows.held.features = "seen"
            if rows.ends_image:
                rows.held.passed(rows.choice)
        steps.append((len(batch.images), shared.features, last.features))
        scheduler.commit(plan)
        leader.append(1)
    assert steps == [(2, None, "seen"), (1, None, None)]
    assert follower.computed == 24
