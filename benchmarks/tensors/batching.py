"""32 clients call a small model, batched and one by one, beside its runtimes called directly."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import openvino as ov

from benchmarks.tensors.models import ALONE, BATCHED, WIDTH, Graphs
from benchmarks.tensors.rows import Row, measured
from benchmarks.tensors.ways import Array, Way

CLIENTS = 32
_ROUNDS = 5
_X_BYTES = WIDTH * 4
_NEAR = 0.02
"""How far answers may be apart, of the largest value: openvino multiplies in BF16 where the processor does."""


@dataclass(slots=True)
class _Load:
    """Clients each of which calls again as soon as it has its answer."""

    name: str
    clients: int
    call: Callable[[], Awaitable[object]]
    took_s: list[float] = field(default_factory=list)
    total_s: float = 0.0

    async def run(self, seconds: float) -> None:
        """Calls for that long."""
        began_s = time.perf_counter()

        async def client() -> None:
            while (at_s := time.perf_counter()) < began_s + seconds:
                await self.call()
                self.took_s.append(time.perf_counter() - at_s)

        await asyncio.gather(*(client() for _ in range(self.clients)))
        self.total_s += time.perf_counter() - began_s

    def row(self) -> Row:
        """All calls so far."""
        size = f"{self.clients} client{'s' if self.clients > 1 else ''}"
        return measured(self.name, size, _X_BYTES, self.took_s, self.total_s)


async def measure_batching(ways: Sequence[Way], direct: Way, graphs: Graphs, seconds: float) -> list[Row]:
    """A row for each way and model, and one for each runtime; `direct` is onnxruntime. They run in turns."""
    x = np.random.default_rng(4).random((1, WIDTH), np.float32)
    one_by_one = direct.pack(ALONE, x)
    expected = np.frombuffer(direct.unpack(await direct.call(one_by_one)), np.float32)
    loads = [await _clients(way, model, x, expected) for way in ways for model in (ALONE, BATCHED)]
    loads.append(_Load(f"{direct.name}, one by one", 1, lambda: direct.call(one_by_one)))
    loads.append(_Load("openvino direct, one by one", 1, _openvino(graphs, x)))
    for _ in range(_ROUNDS):
        for load in loads:
            await load.run(seconds / _ROUNDS)
    return [load.row() for load in loads]


async def _clients(way: Way, model: str, x: Array, expected: Array) -> _Load:
    """Clients of one model. Raises RuntimeError for a wrong answer."""
    sent = way.pack(model, x)
    answer = np.frombuffer(way.unpack(await way.call(sent)), np.float32)
    if not np.allclose(answer, expected, rtol=0, atol=_NEAR * np.abs(expected).max()):
        raise RuntimeError(f"{way.name}, {model}, answers something else than the runtime")
    return _Load(f"{way.name}, {model}", CLIENTS, lambda: way.call(sent))


def _openvino(graphs: Graphs, x: Array) -> Callable[[], Awaitable[object]]:
    run: Callable[[Array], object] = ov.compile_model(graphs.network, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    run(x)

    async def call() -> object:
        return run(x)

    return call
