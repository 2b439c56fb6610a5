"""Proves an import: tries the finished model, and compares its tokens with those that the source's weights give."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infermesh_client.converter_env.environment import LOG, ConverterEnvironment, find_transformers
from infermesh_client.model_import.apart import run_apart
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers.provers import choose_prover
from infermesh_client.verification import transformers_script
from infermesh_client.verification.comparison import NEAR_TIE, Answer, NoReferenceError
from infermesh_client.verification.gguf_weights import GgufWeights
from infermesh_client.verification.numpy_decoder import agreements
from infermesh_runtime.errors import FailedPrecondition, InfermeshError
from infermesh_runtime.model_manifest import ModelFormat, Proof

TOKENS = 20
"""Greedy tokens for each of the trial's prompts."""
_LEAST_SHARE: Mapping[ModelFormat, float] = {"gguf": 0.5, "safetensors": 0.2, "openvino": 0.0}
"""A model that agrees in fewer of its tokens is converted wrongly: no rounding explains it. Converters compress the
weights of safetensors, which moves many tokens of a tiny model."""
_NUMPY, _TRANSFORMERS = "numpy on the file's dequantised weights", "transformers on the source's weights"
_MAX_NUMPY_BYTES = 6 << 30
"""Larger GGUF files take numpy many minutes."""


def prove(folder: Path, model_format: ModelFormat, home: Path, view: ProgressView) -> Proof | None:
    """Tries the model in `folder`, which has a manifest; None where no worker is installed that could run it.

    Raises FailedPrecondition when the model fails, or its tokens are not those of its source.
    """
    entry = choose_prover(folder)
    if entry is None:
        view.say("Not verified: no worker is installed that can run this model")
        return None
    try:
        with view.fraction_step(f"Trying it on {entry.name}") as step:
            trial = run_apart(entry, folder, step, {"tokens": TOKENS}, home / "log" / LOG)
    except InfermeshError as error:
        raise FailedPrecondition(
            f"the model was imported, but it cannot answer: {error.message}. --no-verify imports it all the same",
            reason=error.reason,
        ) from error
    answers = [Answer(*pair) for pair in zip(trial["prompts"], trial["outputs"], strict=True)]
    reference, agreed = _compare(folder, model_format, home, answers, view)
    proof = Proof(
        runner=entry.name,
        reference=reference,
        matched=sum(map(sum, agreed)),
        tokens=sum(map(len, agreed)),
        template_kept=trial["template_kept"],
        end_of_turn=trial["end_of_turn"],
    )
    _judge(proof, _LEAST_SHARE[model_format], view)
    return proof


def _compare(
    folder: Path,
    model_format: ModelFormat,
    home: Path,
    answers: Sequence[Answer],
    view: ProgressView,
) -> tuple[str, Sequence[Sequence[bool]]]:
    """What the answers were compared with, or why with nothing; and for each token whether it is the right one."""
    answered = [answer for answer in answers if answer.output]
    try:
        with view.fraction_step("Comparing it with its source") as step:
            if model_format == "gguf":
                return _NUMPY, _numpy(folder / "model.gguf", answered, step.set)
            if model_format == "safetensors":
                return _TRANSFORMERS, _transformers(folder, answered, find_transformers(home))
            return "none: an OpenVINO IR folder has no other weights to compare with", ()
    except NoReferenceError as error:
        return f"none: {error}", ()


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


def _judge(proof: Proof, least: float, view: ProgressView) -> None:
    """Says what was found. Raises FailedPrecondition when the tokens are others than the source's."""
    if proof.tokens and proof.matched < least * proof.tokens:
        raise FailedPrecondition(
            f"the imported model answers differently from its source: on {proof.runner}, only {proof.matched} of its "
            f"first {proof.tokens} tokens are those of {proof.reference}. --no-verify imports it all the same",
            reason="MODEL_NOT_VERIFIED",
        )
    if proof.tokens:
        view.say(f"Verified {proof.matched}/{proof.tokens} tokens: {proof.runner} against {proof.reference}")
    else:
        view.say(f"Tried on {proof.runner}; reference: {proof.reference}")
    if proof.template_kept is False:
        view.say("Warning: rendered chats do not come back unchanged from their tokens")
    if proof.template_kept is not None and not proof.end_of_turn:
        view.say("Warning: the chat template ends an answer with no token at which the model stops")
