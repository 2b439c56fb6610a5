"""Converts the weights of a model folder to OpenVINO IR, when the model is imported."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

from . import graph
from .export import export_hugging_face
from .gguf_graph.build import save_graph
from .signal_stack import kept_signal_stack

Weights = Literal["int8", "int4"]
Progress = Callable[[str, float], None]
"""Called with the current activity and the share of it that is done, in [0, 1]."""

XML = "openvino_model.xml"


def convert(
    folder: Path,
    *,
    weights: Weights | None,
    progress: Progress,
    environment: tuple[Path, Path] | None = None,
) -> None:
    """Writes openvino/openvino_model.{xml,bin} into a model folder from the weights in it.

    `environment`: for Hugging Face weights, an interpreter that has optimum-intel and NNCF, and the log for its noise.

    `weights`: precision for Hugging Face weights, by default int8. GGUF and OpenVINO weights keep their precision.
    Raises InvalidArgument when `weights` does not apply or a GGUF file says what we do not know, and FailedPrecondition
    when the weights cannot be converted.
    """
    target = folder / "openvino"
    gguf_file = folder / "model.gguf"
    if weights and not any(folder.glob("*.safetensors")):
        raise InvalidArgument(
            "--weights applies only to safetensors; GGUF and OpenVINO weights keep their precision, so leave it out"
        )
    with kept_signal_stack():
        if any(folder.glob("*.safetensors")):
            _export_hugging_face(folder, target, weights or "int8", progress, environment)
        elif gguf_file.exists():
            _convert_gguf(gguf_file, target, progress)
        _check(target / XML)
    progress("converted to OpenVINO", 1.0)


def _convert_gguf(gguf_file: Path, target: Path, progress: Progress) -> None:
    target.mkdir(exist_ok=True)
    save_graph(gguf_file, target / XML, progress)


def _export_hugging_face(
    folder: Path, target: Path, weights: Weights, progress: Progress, environment: tuple[Path, Path] | None
) -> None:
    if environment is None:
        raise FailedPrecondition(
            "converting Hugging Face weights needs the converter environment, which `infermesh models import` makes",
            reason="CONVERTER_NOT_INSTALLED",
        )
    python, log = environment
    export_hugging_face(folder, target / XML, weights, python=python, log=log, progress=progress)


def _check(xml: Path) -> None:
    """Reads the graph as the runner will, so that the import fails for a model that cannot be served."""
    if not xml.exists():
        raise FailedPrecondition(
            f"no weights to convert in {xml.parent.parent}: expected *.safetensors, model.gguf or openvino/{XML}",
            reason="MODEL_NOT_SUPPORTED",
        )
    try:
        graph.read(ov.Core(), xml)
    except (graph.NotPageableError, RuntimeError) as error:
        raise FailedPrecondition(
            f"worker-cpu cannot serve this graph: {_last_line(error)}", reason="MODEL_NOT_SUPPORTED"
        ) from error


def _last_line(error: BaseException) -> str:
    """The last line of an OpenVINO message, which tells what was wrong; source locations come before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
