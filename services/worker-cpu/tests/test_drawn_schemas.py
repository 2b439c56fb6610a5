"""The real model, 32 outputs at once, writes values of 200 schemas that use every keyword which is accepted.

JSON_SCHEMAS=200 asks for all of them, which takes minutes; the short form for two.
"""

import json
import os

from benchmarks.engine.json_schemas import prompts
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished, FinishReason
from infermesh_engine.requests.request import GenerationRequest, OutputFormat, SamplingParams, StopConditions
from infermesh_worker.engine_process.built_model import BuiltModel
from tests.json_schemas.drawn import drawn
from tests.json_schemas.keywords import may_go_on
from tests.json_schemas.validating import problem

SCHEMAS = int(os.environ.get("JSON_SCHEMAS", "2"))
AT_ONCE = 32
MAX_TOKENS = 512


def request(model: BuiltModel, number: int, question: str) -> GenerationRequest:
    """Half of them are greedy, half by chance."""
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return GenerationRequest(
        request_id=str(number),
        prompt_token_ids=tuple(model.tokenizer.encode(text, add_special_tokens=False).ids),
        seed=number,
        sampling=SamplingParams(temperature=number % 2),
        stop=StopConditions(max_tokens=MAX_TOKENS),
        output_format=OutputFormat(kind="json_schema", spec=json.dumps(drawn(number))),
    )


def test_completed_outputs_are_values_of_their_schema(fast_model: BuiltModel) -> None:
    config = EngineConfig(max_sequences=AT_ONCE, max_batched_tokens=512)
    engine = Engine(fast_model.runner, fast_model.tokenizer, fast_model.eos_token_ids, config)
    for number, question in enumerate(prompts(SCHEMAS)):
        engine.submit(request(fast_model, number, question))
    texts = [""] * SCHEMAS
    reasons: dict[int, FinishReason] = {}
    while engine.has_work:
        for output in engine.step():
            assert not isinstance(output, Failed), output
            if isinstance(output, Delta):
                texts[int(output.request_id)] += output.text
            elif isinstance(output, Finished):
                reasons[int(output.request_id)] = output.finish_reason
    completed = [number for number, reason in reasons.items() if reason is FinishReason.STOP]
    wrong = {number: found for number in completed if (found := problem(drawn(number), texts[number]))}
    assert not wrong, {number: (found, texts[number]) for number, found in wrong.items()}
    assert len(reasons) == SCHEMAS
    cut_off = {number: texts[number] for number in reasons if number not in completed}
    assert not {number: text for number, text in cut_off.items() if not may_go_on(drawn(number))}
    assert len(completed) >= 0.9 * SCHEMAS
