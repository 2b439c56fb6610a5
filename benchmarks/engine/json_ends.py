"""Counts the JSON outputs of the default model that do not end, at temperature 0 with max_tokens 512, and how they end.

`python -m benchmarks.engine.json_ends --prompts 500 [--open] [--unbounded]`. Its output is one JSON document. The model
is SmolLM2-135M below build/models, which the tests import. With `--file PATH --seconds 600` the outputs are collected
in a file over several runs.
"""

import argparse
import json
import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from benchmarks.engine.json_ends_file import Collected
from benchmarks.engine.json_schemas import SCHEMAS, prompts
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished, FinishReason
from infermesh_engine.requests.request import GenerationRequest, OutputFormat, SamplingParams, StopConditions
from infermesh_engine.sampling.grammars import digit_bound
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker_cpu.build_model import build_model

MODEL = Path(__file__).parents[2] / "build" / "models" / "smollm2-135m-instruct"
MAX_TOKENS = 512
MOST_QUESTIONS = 500
AT_ONCE = 64
EACH = 10
"""Outputs after which the file is written."""
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')


@dataclass(frozen=True, slots=True)
class Asked:
    """One output that is wanted."""

    question: int
    """Its place among the questions."""
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One output and why it ended."""

    question: int
    schema: str
    text: str
    reason: FinishReason
    tokens: int

    @property
    def is_bad(self) -> bool:
        """Whether it ended by length inside a number or white space."""
        return self.reason is FinishReason.LENGTH and ends_in_number_or_space(self.text)


def ends_in_number_or_space(text: str) -> bool:
    """Whether JSON that was cut off ends inside a number or white space; inside a string it does not."""
    rest = _STRING.sub("s", text)
    return '"' not in rest and re.search(r"[\s0-9.eE+-]$", rest) is not None and not rest.endswith(("true", "false"))


def run(
    model: BuiltModel, asked: Iterable[Asked], *, open_objects: bool = False, at_once: int = AT_ONCE
) -> Iterator[Ended]:
    """The outputs in the order in which they end; the next ones that are asked for take their places at once."""
    config = EngineConfig(max_sequences=at_once, max_batched_tokens=512)
    engine = Engine(model.runner, model.tokenizer, model.eos_token_ids, config)
    questions, waiting, running = prompts(MOST_QUESTIONS), iter(asked), dict[str, tuple[Asked, list[str]]]()
    while True:
        for each in islice(waiting, at_once - len(running)):
            request_id = f"{each.schema}/{each.question}"
            running[request_id] = each, []
            engine.submit(_request(model, request_id, each.schema, questions[each.question], open_objects=open_objects))
        if not running:
            return
        for output in engine.step():
            if isinstance(output, Delta):
                running[output.request_id][1].append(output.text)
            elif isinstance(output, Failed):
                raise output.error
            elif isinstance(output, Finished):
                each, texts = running.pop(output.request_id)
                text, reason = "".join(texts), output.finish_reason
                yield Ended(**asdict(each), text=text, reason=reason, tokens=output.completion_tokens)


def _request(model: BuiltModel, request_id: str, name: str, question: str, *, open_objects: bool) -> GenerationRequest:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    spec = json.dumps(SCHEMAS[name])
    return GenerationRequest(
        request_id=request_id,
        prompt_token_ids=tuple(model.tokenizer.encode(text, add_special_tokens=False).ids),
        seed=1,
        sampling=SamplingParams(temperature=0),
        stop=StopConditions(max_tokens=MAX_TOKENS),
        output_format=OutputFormat(kind="json_schema", spec=spec, open_objects=open_objects),
    )


def _report(outputs: list[Ended]) -> dict[str, Any]:
    long = [ended for ended in outputs if ended.reason is FinishReason.LENGTH]
    bad = [ended for ended in long if ended.is_bad]
    return {
        "outputs": len(outputs),
        "ended_by_length": len(long),
        "inside_number_or_space": len(bad),
        "tokens": sum(ended.tokens for ended in outputs),
        "by_length": {name: sum(ended.schema == name for ended in long) for name in {ended.schema for ended in long}},
        "examples": [asdict(ended) | {"text": ended.text[-80:]} for ended in (*bad, *long)[:5]],
    }


def collect(
    model: BuiltModel, path: Path, count: int, *, seconds: float, flags: dict[str, bool], at_once: int = AT_ONCE
) -> Collected:
    """Adds to the file's outputs until it has those of `count` questions; asks for no more once the time is over.

    What was asked for is always waited for: an output that is left out because it is long would be one that matters.
    """
    collected, started_s = Collected.read(path, flags), time.monotonic()
    before_s, done = collected.seconds, collected.done
    wanted = (Asked(question, name) for question in range(count) for name in SCHEMAS if (question, name) not in done)
    asked = takewhile(lambda _: time.monotonic() - started_s < seconds, wanted)
    for number, ended in enumerate(run(model, asked, open_objects=flags["open"], at_once=at_once)):
        collected.outputs.append(asdict(ended))
        collected.seconds = before_s + time.monotonic() - started_s
        if number % EACH == 0:
            collected.write(path)
    collected.write(path)
    return collected


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.engine.json_ends", description=__doc__)
    parser.add_argument(
        "--prompts", type=int, default=MOST_QUESTIONS, help="how many of 500 prompts; each with 20 schemas"
    )
    parser.add_argument("--open", action="store_true", help="leave objects open, as JSON Schema says")
    parser.add_argument("--unbounded", action="store_true", help="do not bound the digits of numbers")
    parser.add_argument("--file", type=Path, help="keep the outputs there, and go on after those that it has")
    parser.add_argument("--seconds", type=float, default=math.inf, help="ask for no more outputs after this time")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="outputs that are made at the same time")
    options = parser.parse_args()
    if options.unbounded:
        digit_bound.MOST_DIGITS = 1 << 30
    model = build_model({"folder": str(MODEL), "kv_cache_bytes": 1 << 30})
    flags = {"open": options.open, "unbounded": options.unbounded}
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "outputs.json"
        collected = collect(model, path, options.prompts, seconds=options.seconds, flags=flags, at_once=options.at_once)
    model.runner.close()
    report = _report([Ended(**each | {"reason": FinishReason(each["reason"])}) for each in collected.outputs])
    seconds = round(collected.seconds, 1)
    per_s = round(len(collected.outputs) / collected.seconds, 3) if collected.seconds else None
    print(json.dumps(report | {"seconds": seconds, "outputs_per_s": per_s}))


if __name__ == "__main__":
    main()
