"""Measures the requests of each model: times, tokens and how choices ended."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from infermesh_engine.requests.output import EngineLoad, Finished, FinishReason

# vLLM's bucket bounds (vllm/v1/metrics/loggers.py), so that quantiles on dashboards are comparable.
_TTFT_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_ITL_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_E2E_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)


class Histogram:
    """Counts of values by bucket. Plain numbers, because it is updated for every token."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Pairs of an upper bound and the number of values up to it; the last bound is "+Inf"."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class RequestTiming:
    """When the tokens of one request arrived, in seconds on the front's clock."""

    __slots__ = ("first_s", "last_s", "prompt_tokens", "steps", "submitted_s")

    def __init__(self, submitted_s: float, prompt_tokens: int) -> None:
        self.submitted_s = submitted_s
        self.prompt_tokens = prompt_tokens
        self.first_s = 0.0
        self.last_s = 0.0
        self.steps = 0
        """Number of engine steps that brought tokens for at least one choice."""


class RequestMeter:
    """Measurements of one model's requests since the start of the front process."""

    def __init__(self) -> None:
        self.ttft_s = Histogram(_TTFT_S)
        self.itl_s = Histogram(_ITL_S)
        self.tpot_s = Histogram(_ITL_S)
        self.e2e_s = Histogram(_E2E_S)
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.preemptions = 0
        self.looked_up_tokens = 0
        self.cached_tokens = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.finished: Counter[str] = Counter({reason.value: 0 for reason in FinishReason})
        self._last_load = EngineLoad()

    def tokens_came(self, timing: RequestTiming, count: int, now_s: float) -> None:
        """Counts a delta's tokens. Several choices that get tokens in the same step count as one gap."""
        self.generation_tokens += count
        if not timing.steps:
            timing.first_s = now_s
            self.prompt_tokens += timing.prompt_tokens
            self.ttft_s.observe(now_s - timing.submitted_s)
        elif timing.last_s != now_s:
            self.itl_s.observe(now_s - timing.last_s)
        else:
            return
        timing.last_s = now_s
        timing.steps += 1

    def choice_finished(self, finished: Finished) -> None:
        self.finished[finished.finish_reason.value] += 1

    def request_cancelled(self, open_choices: int) -> None:
        """Counts the choices of a cancelled request that had not ended."""
        self.finished[FinishReason.CANCELLED.value] += open_choices

    def request_finished(self, timing: RequestTiming, now_s: float) -> None:
        self.e2e_s.observe(now_s - timing.submitted_s)
        if timing.steps > 1:
            self.tpot_s.observe((timing.last_s - timing.first_s) / (timing.steps - 1))

    def item_finished(self, duration_s: float) -> None:
        """Counts a request to a model that does not generate text."""
        self.finished[FinishReason.STOP.value] += 1
        self.e2e_s.observe(duration_s)

    def engine_ended(self) -> None:
        """Keeps our counters going, although the next engine process counts from 0 again."""
        self._last_load = EngineLoad()

    def load_came(self, load: EngineLoad) -> None:
        self.preemptions += load.preemptions - self._last_load.preemptions
        self.looked_up_tokens += load.looked_up_tokens - self._last_load.looked_up_tokens
        self.cached_tokens += load.cached_tokens - self._last_load.cached_tokens
        self.drafted_tokens += load.drafted_tokens - self._last_load.drafted_tokens
        self.accepted_tokens += load.accepted_tokens - self._last_load.accepted_tokens
        self._last_load = load


class RequestMeters:
    """One meter for each model that this process has served, even if the model has been unloaded."""

    def __init__(self) -> None:
        self._meters: dict[str, RequestMeter] = {}

    def of(self, model: str) -> RequestMeter:
        """The model's meter; always the same one."""
        return self._meters.setdefault(model, RequestMeter())

    def items(self) -> list[tuple[str, RequestMeter]]:
        return list(self._meters.items())
