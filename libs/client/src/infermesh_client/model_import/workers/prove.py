"""Proves an import: tries the finished model, and compares its tokens with those that the source's weights give."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infermesh_client.converter_env.environment import LOG, ConverterEnvironment, find_transformers
from infermesh_client.model_import.apart import run_apart
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers.judge import judge
from infermesh_client.model_import.workers.provers import Prover, list_provers
from infermesh_client.verification import transformers_script
from infermesh_client.verification.comparison import NEAR_TIE, Answer, NoReferenceError
from infermesh_client.verification.gguf_weights import GgufWeights
from infermesh_client.verification.numpy_decoder import agreements
from infermesh_runtime.errors import FailedPrecondition, InfermeshError
from infermesh_runtime.manifest.model_manifest import ModelFormat, Proof

TOKENS = 20
"""Greedy tokens for each of the trial's prompts."""
_LEAST_SHARE: Mapping[ModelFormat, float] = {"gguf": 0.5, "safetensors": 0.2, "openvino": 0.0}
"""A model that agrees in fewer of its tokens is converted wrongly: no rounding explains it. Converters compress the
weights of safetensors, which moves many tokens of a tiny model."""
_NUMPY, _TRANSFORMERS = "numpy on the file's dequantised weights", "transformers on the source's weights"
_MAX_NUMPY_BYTES = 6 << 30
"""Larger GGUF files take numpy many minutes."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a runner answered, as try_model returns it, or why it could not be tried."""

    prover: Prover
    found: Mapping[str, Any]
    not_tried: str = ""

    @property
    def answers(self) -> list[Answer]:
        """The answers whose tokens are counted."""
        pairs = zip(self.found.get("prompts", ()), self.found.get("outputs", ()), strict=True)
        return [Answer(tuple(prompt), tuple(output)) for prompt, output in pairs if output]


def prove(folder: Path, model_format: ModelFormat, home: Path, view: ProgressView) -> tuple[Proof, ...]:
    """Tries the model in `folder`, which has a manifest, on each installed runner; none if there is none.

    Raises FailedPrecondition when the model fails on the first of them, or on one its tokens are not those of its
    source.
    """
    provers = list_provers(folder)
    trials = [_try(prover, folder, home, view, must=prover is provers[0]) for prover in provers]
    if all(trial.not_tried for trial in trials):
        view.say("Not verified: no worker is installed that can run this model")
        return ()
    reference, right = _compare(folder, model_format, home, _distinct(trials), view)
    proofs = tuple(_proof(trial, reference, right) for trial in trials)
    for proof, trial in zip(proofs, trials, strict=True):
        judge(proof, _LEAST_SHARE[model_format], view, went_on_after=(trial.found.get("turn") or {}).get("marker", ""))
    return proofs


def _try(prover: Prover, folder: Path, home: Path, view: ProgressView, *, must: bool) -> _Trial:
    """Lets one runner answer. Raises FailedPrecondition if it fails and `must` not."""
    if prover.cannot:
        return _Trial(prover, {}, prover.cannot)
    try:
        with view.fraction_step(f"Trying it on {prover.worker}") as step:
            found = run_apart(prover.entry, folder, step, {"tokens": TOKENS}, home / "log" / LOG)
    except InfermeshError as error:
        if not must:
            return _Trial(prover, {}, error.message)
        raise FailedPrecondition(
            f"the model was imported, but it cannot answer: {error.message}. --no-verify imports it all the same",
            reason=error.reason,
        ) from error
    return _Trial(prover, found)


def _distinct(trials: Sequence[_Trial]) -> list[Answer]:
    """The answers of all runners, each once: runners that agree cost the reference no more than one."""
    return list(dict.fromkeys(answer for trial in trials for answer in trial.answers))


def _proof(trial: _Trial, reference: str, right: Mapping[Answer, Sequence[bool]]) -> Proof:
    agreed = [right[answer] for answer in trial.answers if answer in right]
    turn = trial.found.get("turn")
    ended = None if turn is None or not (turn["ended"] or turn["marker"]) else not turn["marker"]
    return Proof(
        runner=trial.prover.entry.name,
        worker=trial.prover.worker,
        reference=reference if not trial.not_tried else "none: it was not tried",
        matched=sum(map(sum, agreed)),
        tokens=sum(map(len, agreed)),
        template_kept=trial.found.get("template_kept"),
        end_of_turn=trial.found.get("end_of_turn", ""),
        turn_ended=ended,
        not_tried=trial.not_tried,
    )


def _compare(
    folder: Path, model_format: ModelFormat, home: Path, answers: Sequence[Answer], view: ProgressView
) -> tuple[str, Mapping[Answer, Sequence[bool]]]:
    """What the answers were compared with, or why with nothing; and for each token whether it is the right one."""
    try:
        with view.fraction_step("Comparing it with its source") as step:
            if model_format == "gguf":
                found = _numpy(folder / "model.gguf", answers, step.set)
                return _NUMPY, dict(zip(answers, found, strict=True))
            if model_format == "safetensors":
                found = _transformers(folder, answers, find_transformers(home))
                return _TRANSFORMERS, dict(zip(answers, found, strict=True))
            return "none: an OpenVINO IR folder has no other weights to compare with", {}
    except NoReferenceError as error:
        return f"none: {error}", {}


def _numpy(gguf: Path, answers: Sequence[Answer], report: Callable[[float], None]) -> Sequence[Sequence[bool]]:
    if gguf.stat().st_size > _MAX_NUMPY_BYTES:
        raise NoReferenceError("the file is too large for the reference in numpy")
    return agreements(GgufWeights(gguf), answers, report)


def _transformers(
    folder: Path, answers: Sequence[Answer], environment: ConverterEnvironment | None
) -> Sequence[Sequence[bool]]:
    if environment is None:
        raise NoReferenceError("there is no environment with transformers")
    asked = {"answers": [[list(answer.prompt), list(answer.output)] for answer in answers], "near_tie": NEAR_TIE}
    script = Path(transformers_script.__file__)
    environment.log.parent.mkdir(parents=True, exist_ok=True)
    with environment.log.open("ab") as noise:
        command = [environment.python, script, folder]
        question = json.dumps(asked).encode()
        done = subprocess.run(command, input=question, stdout=subprocess.PIPE, stderr=noise, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise NoReferenceError(f"transformers ended with {done.returncode}; see {environment.log}") from None
    if "error" in told:
        raise NoReferenceError(f"transformers cannot run it: {told['error']}")
    found: list[list[bool]] = told["agreements"]
    return found
