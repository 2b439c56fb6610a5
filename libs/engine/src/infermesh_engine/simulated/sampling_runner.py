"""A simulated runner that samples: launches take time on the device, not on the host."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch, Logits, RunnerInfo
from infermesh_engine.runners.sampling_runner import SampledRows, SamplingBatch
from infermesh_engine.sampling.host_sampling import choose
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock


class SimulatedSamplingRunner:
    """A SimulatedRunner that runs launches one after another on a time line of its own, with the same tokens.

    A launch begins when it is made, or when the one before it ends if that is later. Tokens that are not known yet are
    taken from the launch before, whether or not anybody has waited for it.
    """

    def __init__(
        self,
        options: SimulatedOptions,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """Pass a VirtualClock and its `sleep` to run without real time passing."""
        self._clock = clock
        self._sleep = sleep
        self._device_time = VirtualClock()
        self._runner = SimulatedRunner(options, clock=self._device_time, sleep=self._device_time.sleep)
        self._last: SimulatedLaunch | None = None
        self.memory_free_bytes = self._runner.memory_free_bytes
        self.close = self._runner.close

    @property
    def info(self) -> RunnerInfo:
        return replace(self._runner.info, samples=True)

    def run(self, batch: Batch) -> Logits:
        """As SimulatedRunner.run."""
        logits = self._run(batch)
        self._sleep_until(self._device_time())
        return logits

    def launch(self, batch: Batch) -> "SimulatedLaunch":
        """Raises what SimulatedRunner.run raises, ValueError if the launch whose tokens it needs was not sampled."""
        expected = batch.token_ids < 0
        if expected.any():
            token_ids = batch.token_ids.copy()
            known = self._tokens_of_last()[-1 - batch.token_ids[expected]]
            token_ids[expected] = known.clip(min=0)  # the sequence of a row without a token ends
            batch = replace(batch, token_ids=token_ids)
        logits = self._run(batch)
        ready_s = self._device_time()
        self._last = SimulatedLaunch(logits, lambda: self._sleep_until(ready_s))
        return self._last

    def _run(self, batch: Batch) -> Logits:
        self._device_time.now_s = max(self._device_time(), self._clock())
        return self._runner.run(batch)

    def _tokens_of_last(self) -> NDArray[np.int64]:
        if self._last is None or self._last.tokens is None:
            raise ValueError("the batch needs tokens of the previous launch, which was not sampled")
        return self._last.tokens.token_ids

    def _sleep_until(self, time_s: float) -> None:
        self._sleep(max(0.0, time_s - self._clock()))


class SimulatedLaunch:
    """`sampling_runner.Launch` on the host."""

    def __init__(self, logits: Logits, wait: Callable[[], None]) -> None:
        self._logits = logits
        self._wait = wait
        self.tokens: SampledRows | None = None

    def sample(self, sampling: SamplingBatch) -> None:
        self.tokens = choose(self._logits, sampling)

    def wait(self) -> SampledRows:
        if self.tokens is None:
            raise ValueError("the launch has no tokens: call sample() before wait()")
        self._wait()
        return self.tokens
