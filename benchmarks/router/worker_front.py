"""Measures what a token costs the front process of a worker: as calls of Generate, and as one stream of GenerateMany.

`python -m benchmarks.router.worker_front [--streams 1,16,64] [--rounds 3]`. A worker with a simulated device streams to
a plain gRPC client in this process, by both ways in every round, one after the other. The figure is the CPU time of the
front for each token, the least of all rounds, since whatever else the machine does only adds to it. The request's own
cost is in it; answers are long. The last line is one JSON document.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import grpc
import uvloop

from benchmarks.router.front_share import cpu_ns
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_worker.testing.processes import simulated_worker_process

TOKENS = 1024
_SERVICE = "/infermesh.inference.v1.InferenceService/"
Run = Callable[[grpc.aio.Channel, int], Awaitable[int]]


def ask(seed: int) -> bytes:
    stop = pb.StopConditions(max_tokens=TOKENS, ignore_eos=True)
    return pb.GenerateRequest(text="Once upon a time", seed=seed, stop=stop).SerializeToString()


async def run_calls(channel: grpc.aio.Channel, streams: int) -> int:
    """Reads so many Generate calls at once, unparsed; returns the number of messages."""

    async def read(seed: int) -> int:
        return len([message async for message in channel.unary_stream(f"{_SERVICE}Generate")(ask(seed))])

    return sum(await asyncio.gather(*map(read, range(streams))))


async def run_frames(channel: grpc.aio.Channel, streams: int) -> int:
    """Reads so many calls on one stream; returns the number of messages."""
    stream = channel.stream_stream(f"{_SERVICE}GenerateMany")()
    for call in range(streams):
        start = pb.CallStart(call=call, request=ask(call))
        await stream.write(pb.GenerateManyRequest(start=start).SerializeToString())
    await stream.done_writing()
    frames = [frame async for frame in stream]
    whole = pb.GenerateManyResponse.FromString(b"".join(frames))
    ends = [event.end.code for event in whole.events if event.HasField("end")]
    if ends != [0] * streams:
        raise SystemExit(f"the calls ended with {ends}")
    return len(frames)


WAYS: dict[str, Run] = {"generate": run_calls, "frames": run_frames}


async def measure(streams: list[int], rounds: int, itl_s: float) -> dict[str, dict[str, float]]:
    """By way and number of streams: microseconds a token, and messages a token."""
    found: dict[str, dict[str, float]] = {}
    settings = {"max_sequences": max(streams), "sim_itl_s": itl_s, "sim_slope_s": 0, "sim_kv_tokens": 1 << 19}
    async with simulated_worker_process(**settings) as worker:
        address = await worker.ready()
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            for number in range(rounds + 1):
                for count in streams:
                    for name, run in WAYS.items():
                        before_ns = cpu_ns(worker.pid)
                        messages = await run(channel, count)
                        each_us = (cpu_ns(worker.pid) - before_ns) / (count * TOKENS * 1000)
                        figures = {"us_per_token": round(each_us, 1), "messages_per_token": messages / count / TOKENS}
                        print(f"round {number} {name:9s} {count:4d} streams {figures}", file=sys.stderr)
                        key = f"{name}_{count}"
                        if number and each_us < found.get(key, {"us_per_token": 1e9})["us_per_token"]:
                            found[key] = figures  # the first round warms up
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.router.worker_front", description=__doc__)
    parser.add_argument("--streams", default="1,16,64", help="how many sequences run at once, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to measure, after one to warm up")
    parser.add_argument("--itl", type=float, default=0.01, help="duration of a step, in seconds")
    options = parser.parse_args()
    found = uvloop.run(measure([*map(int, options.streams.split(","))], options.rounds, options.itl))
    print(json.dumps({"benchmark": "worker_front", "tokens": TOKENS, "itl_s": options.itl, "results": found}))


if __name__ == "__main__":
    main()
