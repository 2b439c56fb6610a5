"""Runs each step of the comparison in a process of its own, one after another, and keeps what can be used again."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tests.models.known_models import MODELS
from tests.models.packages import alone_with, download

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "models-cache"
FIGURES = CACHE / "figures.jsonl"
_TIMEOUT_S = 3600
_OURS = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
_ENVIRONMENT = _OURS | {"OMP_WAIT_POLICY": "passive"}
"""Without settings of the mesh, which would change an import, or stop it where they are this lane's own. Threads of
torch that wait must not take the processor from those that work."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer beside the reference, token by token; the reference has read the answer's own tokens before each."""

    behind: np.ndarray
    """How far the log probability of each token is below the highest."""
    differences: np.ndarray
    """Of its log probability, in absolute terms."""
    texts_kept: bool
    """Whether all prompts come back from their tokens."""
    seconds: float
    """What the answer took, with the loading of the model; the reference is not counted."""

    @property
    def figures(self) -> dict[str, float]:
        """What a report says of it."""
        return {
            "worst_behind": float(self.behind.max()),
            "worst_difference": float(self.differences.max()),
            "median_difference": float(np.median(self.differences)),
            "seconds": round(self.seconds, 1),
        }


class Answers(msgspec.Struct):
    """What tests.models.worker_answers prints."""

    prompts: list[list[int]]
    outputs: list[list[int]]
    log_probabilities: list[list[float]]
    texts_kept: bool


def gguf_of(name: str) -> Path:
    """The GGUF file of a model, downloaded once."""
    return download(MODELS[name], CACHE / f"{name}.gguf")


def import_gguf(name: str, models: Path) -> Path:
    """Imports it with the command, as a user does; returns the model's folder."""
    return _import(Path(sys.executable).with_name("infermesh"), gguf_of(name), name, models)


def import_folder(name: str, imported: Path, converter: Path) -> Path:
    """Imports the dequantised folder with the command `infermesh` of the venv `converter`, which has optimum-intel.

    Its tokenizer is that of `imported`, the model that was made of the GGUF file.
    """
    source = dequantised(name)
    for file in ("tokenizer.json", "chat_template.jinja"):
        if (imported / file).is_file():
            (source / file).write_bytes((imported / file).read_bytes())
    return _import(converter / "bin" / "infermesh", source, f"{name}-folder", imported.parent)


def dequantised(name: str) -> Path:
    """A folder of the file's weights in float32, made once by transformers."""
    folder, unfinished = CACHE / f"{name}-dequantised", CACHE / f"{name}-unfinished"
    with alone_with(folder):
        if not (folder / "config.json").is_file():
            _python("tests.models.reference", "dequantise", str(gguf_of(name)), str(unfinished))
            unfinished.rename(folder)
    return folder


def compare(name: str, folder: Path, runner: str, numerics: str) -> Comparison:
    """Lets a runner answer on an imported model, and the reference follow it on the dequantised weights.

    The figures are added to FIGURES, one line of JSON for each comparison.
    """
    started_s = time.monotonic()
    answers = msgspec.convert(_python("tests.models.worker_answers", runner, str(folder), numerics), Answers)
    seconds = time.monotonic() - started_s
    told = _python("tests.models.reference", "follow", str(dequantised(name)), asked=msgspec.to_builtins(answers))
    expected, found = np.array(told["log_probabilities"]), np.array(answers.log_probabilities)
    compared = Comparison(np.array(told["behind"]), np.abs(found - expected), answers.texts_kept, seconds)
    with FIGURES.open("a", encoding="utf-8") as file:
        line = {"model": folder.name, "runner": runner, "numerics": numerics, **compared.figures}
        file.write(json.dumps(line) + "\n")
    return compared


def _import(command: Path, source: Path, name: str, models: Path) -> Path:
    environment = _ENVIRONMENT | {"INFERMESH_MODELS": str(models), "INFERMESH_HOME": str(models.parent / "home")}
    _run([str(command), "models", "import", str(source), "--name", name], environment)
    return models / name


def _python(module: str, *arguments: str, asked: Any = None) -> Any:
    return json.loads(_run([sys.executable, "-m", module, *arguments], _ENVIRONMENT, asked).splitlines()[-1])


def _run(command: list[str], environment: dict[str, str], asked: Any = None) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-6000:]}"
    return done.stdout
