"""Simulates a worker in virtual time: continuous batching, chunked prefill, KV cache and prefix cache.

A step lasts base + slope × decoding sequences + prefilled tokens ÷ prefill rate, and gives each decoding sequence one
token. While nothing is prefilled, all steps until the next sequence ends are one event.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.router.fleet_trace import Request
from infermesh.inference.v1 import inference_pb2 as pb

BLOCK_TOKENS = 64
_CHUNK_TOKENS = 512
MODEL = "m"
MODEL_BYTES = 2_000_000_000
_RATE_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """How fast and how large one kind of endpoint is."""

    kind: pb.DeviceKind
    prefill_tokens_per_s: float
    itl_base_s: float
    itl_slope_s: float
    kv_tokens: int
    max_running: int


@dataclass(slots=True, eq=False)
class Job:
    """A request in the fleet, and its outcome."""

    request: Request
    address: str = ""
    to_prefill: int = 0
    cached_tokens: int = 0
    to_decode: int = 0
    first_token_s: float = math.inf
    done_s: float = math.inf

    @property
    def ttft_s(self) -> float:
        """Time from arrival to first token."""
        return self.first_token_s - self.request.at_s

    @property
    def tpot_s(self) -> float:
        """Mean time between tokens."""
        return (self.done_s - self.first_token_s) / max(1, self.request.output_tokens - 1)


@dataclass(slots=True)
class _Rate:
    """A measured rate, averaged over steps with exponential weights, as a worker's meter reports it."""

    tokens_per_s: float = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        if tokens and seconds:
            weight = _RATE_WEIGHT if self.tokens_per_s else 1.0
            self.tokens_per_s += weight * (tokens / seconds - self.tokens_per_s)


class Worker:
    """One endpoint. `submit` gives it work; it calls `wake(at_s, version)` to have `advance` called at that time."""

    def __init__(self, device: DeviceClass, wake: Callable[[float, int], None], finish: Callable[[Job], None]) -> None:
        self.device = device
        self.version = 0
        self.changed = True
        self._wake = wake
        self._finish = finish
        self._waiting: deque[Job] = deque()
        self._prefilling: deque[Job] = deque()
        self._decoding: list[Job] = []
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._held_tokens = 0
        self._step: tuple[float, float, int, int] | None = None
        """The running steps: when they began, seconds of each, how many, and tokens prefilled."""
        self._prefill_rate, self._decode_rate = _Rate(), _Rate()

    def submit(self, job: Job, now_s: float) -> None:
        """Queues a request."""
        self._waiting.append(job)
        self.changed = True
        if self._step is None:
            self._begin(now_s)
            return
        start_s, each_s, steps, _ = self._step
        if steps > 1:  # the new request is admitted when the running step ends
            passed = min(steps, max(1, math.ceil((now_s - start_s) / each_s)))
            self._step = (start_s, each_s, passed, 0)
            self._schedule(start_s + passed * each_s)

    def advance(self, now_s: float) -> None:
        """Ends the scheduled steps and begins the next."""
        assert self._step is not None
        _, each_s, steps, prefilled = self._step
        self.changed = True
        self._prefill_rate.add(prefilled, each_s)
        self._decode_rate.add(len(self._decoding) * steps, each_s * steps)
        for job in self._decoding:
            job.to_decode -= steps
        self._prefill(prefilled, now_s)
        for job in [job for job in self._decoding if job.to_decode <= 0]:
            self._decoding.remove(job)
            job.done_s = now_s
            self._held_tokens -= _needed_tokens(job)
            self._finish(job)
        self._begin(now_s)

    def report(self) -> pb.HealthReport:
        """Returns what its WatchHealth would report now."""
        self.changed = False
        running = len(self._prefilling) + len(self._decoding)
        load = pb.Load(
            running=running,
            waiting=len(self._waiting),
            waiting_tokens=sum(j.to_prefill for j in self._prefilling) + sum(map(self._uncached, self._waiting)),
            kv_cache_usage=min(1.0, self._held_tokens / self.device.kv_tokens),
            prefill_tokens_per_s=self._prefill_rate.tokens_per_s,
            decode_tokens_per_s=self._decode_rate.tokens_per_s,
            kv_cache_tokens=self.device.kv_tokens,
        )
        model = pb.ModelStatus(name=MODEL, state=pb.ENDPOINT_STATE_READY, size_bytes=MODEL_BYTES)
        device = pb.Device(kind=self.device.kind, memory_total_bytes=16 << 30)
        return pb.HealthReport(state=pb.ENDPOINT_STATE_READY, device=device, models=[model], load=load)

    def _begin(self, now_s: float) -> None:
        self._admit()
        decoding, device = len(self._decoding), self.device
        if not decoding and not self._prefilling:
            self._step = None
            return
        chunk = min(_CHUNK_TOKENS, sum(job.to_prefill for job in self._prefilling))
        each_s = device.itl_base_s + device.itl_slope_s * decoding + chunk / device.prefill_tokens_per_s
        steps = 1 if self._prefilling else max(1, min(job.to_decode for job in self._decoding))
        self._step = (now_s, each_s, steps, chunk)
        self._schedule(now_s + each_s * steps)

    def _schedule(self, at_s: float) -> None:
        self.version += 1
        self._wake(at_s, self.version)

    def _admit(self) -> None:
        while self._waiting and len(self._prefilling) + len(self._decoding) < self.device.max_running:
            needed = _needed_tokens(self._waiting[0])
            if self._held_tokens and self._held_tokens + needed > self.device.kv_tokens:
                return
            job = self._waiting.popleft()
            self._held_tokens += needed
            job.cached_tokens = min(self._cached(job.request.blocks), job.request.prompt_tokens - 1)
            job.to_prefill = job.request.prompt_tokens - job.cached_tokens
            job.to_decode = job.request.output_tokens
            self._prefilling.append(job)

    def _prefill(self, tokens: int, now_s: float) -> None:
        while self._prefilling and tokens >= self._prefilling[0].to_prefill:
            job = self._prefilling.popleft()
            tokens -= job.to_prefill
            job.to_prefill = 0
            job.first_token_s = now_s
            job.to_decode -= 1
            self._decoding.append(job)
            self._remember(job.request.blocks)
        if self._prefilling:
            self._prefilling[0].to_prefill -= tokens

    def _cached(self, blocks: tuple[int, ...]) -> int:
        held = 0
        for block in blocks:
            if block not in self._cache:
                break
            self._cache.move_to_end(block)
            held += BLOCK_TOKENS
        return held

    def _uncached(self, job: Job) -> int:
        held = sum(BLOCK_TOKENS for block in job.request.blocks if block in self._cache)
        return max(1, job.request.prompt_tokens - held)

    def _remember(self, blocks: tuple[int, ...]) -> None:
        """Caches the blocks, in what running sequences leave of the KV cache."""
        for block in reversed(blocks):
            self._cache[block] = None
            self._cache.move_to_end(block)
        room = max(0, self.device.kv_tokens - self._held_tokens) // BLOCK_TOKENS
        while len(self._cache) > room:
            self._cache.popitem(last=False)


def _needed_tokens(job: Job) -> int:
    return job.request.prompt_tokens + job.request.output_tokens
