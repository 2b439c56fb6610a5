"""Measures how long a stream waits for its next token while costly output formats are asked for beside it.

`python -m benchmarks.engine.formats`. Its output is one JSON document: for each format, the longest and the
median gap between two tokens of the stream, in milliseconds, and the answer to the format. The runner is simulated.
"""

import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing import processes
from infermesh_worker.testing.processes import simulated_worker_process

FORMATS: dict[str, dict[str, str]] = {
    "nothing": {},
    "nested repetitions": {"regex": "(a{1000}){1000}"},
    "10,000-value enum": {"json_schema": json.dumps({"enum": [f"value-{i * 7919}" for i in range(10_000)]})},
    "5 MB schema": {"json_schema": json.dumps({"description": "x" * (5 << 20)})},
    "recursive $ref": {
        "json_schema": '{"$defs": {"n": {"type": "object", "properties": {"c": {"type": "array",'
        ' "items": {"$ref": "#/$defs/n"}}}, "required": ["c"]}}, "$ref": "#/$defs/n"}'
    },
    "multipleOf 99999999": {"json_schema": '{"type": "integer", "multipleOf": 99999999}'},
    "10,000 optional properties": {
        "json_schema": json.dumps({"type": "object", "properties": {f"p{i}": {} for i in range(10_000)}})
    },
    "1 MB of Lark": {"grammar": "start: " + " | ".join(f'"word{i:06d}x"' for i in range(60_000))},
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one format did to the stream beside it."""

    longest_gap_ms: float
    median_gap_ms: float
    answered_after_s: float
    answer: str


async def ask(stub: InferenceServiceStub, spec: dict[str, str]) -> str:
    """The status of a request with this format."""
    if not spec:
        await asyncio.sleep(2)
        return "OK"
    stop = pb.StopConditions(max_tokens=8)
    constraint: dict[str, Any] = dict(spec)
    try:
        async for _ in stub.Generate(pb.GenerateRequest(text="a", format=pb.OutputFormat(**constraint), stop=stop)):
            pass
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {(error.details() or '')[:100]}"
    return "OK"


async def measure(stub: InferenceServiceStub, beside: Any, spec: dict[str, str]) -> Figures:
    """Reads the stream until the request with this format is answered."""
    began_s = last_s = time.perf_counter()
    asking = asyncio.create_task(ask(stub, spec))
    gaps_ms: list[float] = []
    while not asking.done():
        await beside.read()
        now_s = time.perf_counter()
        gaps_ms.append(1000 * (now_s - last_s))
        last_s = now_s
    return Figures(
        longest_gap_ms=round(max(gaps_ms), 1),
        median_gap_ms=round(statistics.median(gaps_ms), 1),
        answered_after_s=round(last_s - began_s, 2),
        answer=await asking,
    )


async def main() -> None:
    """Runs every format, each beside the same stream."""
    async with (
        simulated_worker_process(sim_itl_s=0.005, sim_context_length=1 << 20, sim_kv_tokens=1 << 20) as worker,
        processes.connected(worker) as stubs,
    ):
        beside = stubs.inference.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=1_000_000)))
        await beside.read()
        figures = {name: asdict(await measure(stubs.inference, beside, spec)) for name, spec in FORMATS.items()}
        beside.cancel()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
