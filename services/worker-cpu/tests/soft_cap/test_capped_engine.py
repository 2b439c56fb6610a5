"""The engine's promises hold for a model with a soft cap: batches, prefix cache, preemption and continuation."""

from infermesh_engine.requests.output import Finished
from infermesh_engine.requests.request import Continuation, SamplingParams
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness
from tests.gguf_files.capped_gemma import Made


def prompt(start: int, tokens: int) -> str:
    return " ".join(f"t{(start + 7 * index) % 96}" for index in range(tokens))


PROMPTS = [prompt(1, 5), prompt(2, 90), prompt(3, 33), prompt(4, 64), prompt(5, 17)]


SAMPLED = SamplingParams(temperature=1.2)


def answers(harness: Harness, *prompts: str, tokens: int = 24) -> dict[str, tuple[int, ...]]:
    return harness.tokens(*(harness.request(p, p, tokens=tokens, sampling=SAMPLED) for p in prompts))


def one_by_one(model: BuiltModel, tokens: int = 24) -> dict[str, tuple[int, ...]]:
    harness = Harness(model, prefix_caching=False, max_batched_tokens=512)
    return {p: answers(harness, p, tokens=tokens)[p] for p in PROMPTS}


def test_a_batch_of_mixed_lengths_equals_one_by_one(capped: BuiltModel) -> None:
    batched = Harness(capped, prefix_caching=False, max_sequences=8, max_batched_tokens=40)
    assert answers(batched, *PROMPTS) == one_by_one(capped)


def test_a_prefix_cache_hit_changes_nothing(capped: BuiltModel) -> None:
    harness = Harness(capped, max_batched_tokens=64)
    first = answers(harness, PROMPTS[1])
    outputs = harness.run(harness.request("again", PROMPTS[1], tokens=24, sampling=SAMPLED))
    assert next(output for output in outputs if isinstance(output, Finished)).cached_tokens >= 64
    assert answers(harness, PROMPTS[1]) == first == answers(Harness(capped, prefix_caching=False), PROMPTS[1])


def test_preempt_and_resume_changes_nothing(made: Made, capped: BuiltModel) -> None:
    block_bytes = capped.runner.info.kv_cache_bytes // capped.runner.info.num_blocks
    small = made.model(kv_cache_bytes=8 * block_bytes, numerics="exact")
    crowded = Harness(small, prefix_caching=False, max_batched_tokens=64)
    assert answers(crowded, *PROMPTS, tokens=70) == one_by_one(capped, tokens=70)
    assert crowded.engine.load().preemptions > 0
    small.runner.close()


def test_a_continuation_at_any_index_equals_the_plain_run(capped: BuiltModel) -> None:
    harness = Harness(capped)
    expected = answers(harness, PROMPTS[2])[PROMPTS[2]]
    requests = [
        harness.request(
            str(index),
            PROMPTS[2],
            tokens=24,
            sampling=SAMPLED,
            generated=(Continuation(choice=0, token_ids=expected[:index]),),
        )
        for index in range(1, 24, 3)
    ]
    assert harness.tokens(*requests) == {str(index): expected[index:] for index in range(1, 24, 3)}


def test_the_cache_gives_its_memory_back(made: Made) -> None:
    model = made.model(numerics="exact")
    harness = Harness(model, max_batched_tokens=64)
    first = answers(harness, *PROMPTS)
    assert harness.engine.limit_kv(0) < model.runner.info.kv_cache_bytes / 2
    assert answers(harness, *PROMPTS) == first
    model.runner.close()
