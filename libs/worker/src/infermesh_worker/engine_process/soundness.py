"""Finds out, when a request ends in NaN, whether the request or the model is to blame.

It asks the model the prompt that it answered when it was loaded. If that gives NaN too, the model in memory is damaged:
the engine process ends, and loading the model again either heals it or refuses it by name.
"""

import logging

from infermesh_engine.engine import Engine
from infermesh_engine.requests.output import Delta, Failed, Finished, Output
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.first_pass import TOKENS, known_prompt
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.sampling.broken import LOGITS_NOT_FINITE
from infermesh_runtime.errors import FailedPrecondition

_OWN = "soundness"
"""Id of the request that asks; the front numbers those of clients."""
_FIRST = 1 << 30
"""Its priority, larger than a client's can be."""

_log = logging.getLogger(__name__)


class Soundness:
    """Looks at each step's outputs. Costs nothing while no request ends in NaN."""

    def __init__(self, engine: Engine, info: RunnerInfo, model: str) -> None:
        """`model`: its name, for errors."""
        self._engine = engine
        self._model = model
        self._seen = 0
        self._asking = False
        self._question = GenerationRequest(
            request_id=_OWN,
            prompt_token_ids=tuple(known_prompt(info, tokens=max(1, min(TOKENS, info.context_length - 1)))),
            seed=0,
            sampling=SamplingParams(temperature=0.0),
            stop=StopConditions(max_tokens=1, ignore_eos=True),
            priority=_FIRST,
        )

    def watch(self, outputs: list[Output]) -> list[Output]:
        """The outputs of clients' requests. Raises FailedPrecondition when the model is damaged."""
        broken = self._engine.broken_requests
        if broken == self._seen and not self._asking:
            return outputs
        if self._asking:
            outputs = [output for output in outputs if output.request_id != _OWN or self._hear(output)]
        if broken > self._seen and not self._asking:
            self._engine.submit(self._question)
            self._asking = True
        self._seen = broken
        return outputs

    def _hear(self, answer: Output) -> bool:
        """Takes the model's answer, which is no client's: returns False."""
        if isinstance(answer, Failed) and answer.error.reason == LOGITS_NOT_FINITE:
            raise FailedPrecondition(
                f"model {self._model!r} computes logits that are not finite (NaN or infinity), now even for the prompt "
                "that it answered when it was loaded. It is loaded again",
                reason=LOGITS_NOT_FINITE,
                metadata={"model": self._model},
            )
        if not isinstance(answer, Delta):
            self._asking = False
        if isinstance(answer, Finished):
            _log.info("the model is sound: only a request's own logits are not finite", extra={"model": self._model})
        return False
