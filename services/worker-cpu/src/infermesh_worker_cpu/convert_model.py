"""Converts the weights of a model folder to OpenVINO IR, when the model is imported."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker.models.loading_report import check_loaded

from . import gguf_types, graph
from .signal_stack import kept_signal_stack

Weights = Literal["int8", "int4"]
Progress = Callable[[str, float], None]
"""Called with the current activity and the share of it that is done, in [0, 1]."""

XML = "openvino_model.xml"


def convert(folder: Path, *, weights: Weights | None, progress: Progress) -> None:
    """Writes openvino/openvino_model.{xml,bin} into a model folder from the weights in it.

    `weights`: precision for Hugging Face weights, by default int8. GGUF and OpenVINO weights keep their precision.
    Raises InvalidArgument when `weights` does not apply, and FailedPrecondition when the weights cannot be converted.
    """
    target = folder / "openvino"
    gguf_file = folder / "model.gguf"
    if weights and not any(folder.glob("*.safetensors")):
        raise InvalidArgument(
            "--weights applies only to safetensors; GGUF and OpenVINO weights keep their precision, so leave it out"
        )
    with kept_signal_stack():
        if any(folder.glob("*.safetensors")):
            _export_hugging_face(folder, target, weights or "int8", progress)
        elif gguf_file.exists():
            _convert_gguf(gguf_file, target, progress)
        _check(target / XML)
    progress("converted to OpenVINO", 1.0)


def _convert_gguf(gguf_file: Path, target: Path, progress: Progress) -> None:
    """Converts with openvino-genai, which saves the graph beside the GGUF file: it gets a link in a scratch folder."""
    import openvino_genai  # noqa: PLC0415 - takes 100 MB, and only an import needs it

    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=gguf_file.parent) as scratch:
        readable = gguf_types.readable_copy(gguf_file, Path(scratch) / "model.gguf", progress)
        progress("building the OpenVINO graph", 0.0)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1
        try:
            openvino_genai.ContinuousBatchingPipeline(
                str(readable), scheduler, "CPU", {"enable_save_ov_model": True, "CACHE_DIR": ""}
            )
        except (RuntimeError, LookupError, ValueError) as error:  # C++ exceptions arrive as one of these
            raise FailedPrecondition(
                f"OpenVINO cannot read this GGUF file: {_last_line(error)}", reason="MODEL_NOT_SUPPORTED"
            ) from error
        for suffix in (".xml", ".bin"):
            readable.with_name(f"openvino_model{suffix}").replace(target / f"openvino_model{suffix}")


def _export_hugging_face(folder: Path, target: Path, weights: Weights, progress: Progress) -> None:
    if find_spec("optimum") is None or find_spec("nncf") is None:
        raise FailedPrecondition(
            "converting Hugging Face weights needs optimum-intel and NNCF, which are not installed: "
            "pip install 'infermesh-worker-cpu[huggingface]'",
            reason="CONVERTER_NOT_INSTALLED",
        )
    from optimum.exporters.openvino import main_export  # noqa: PLC0415 - an optional extra
    from optimum.intel import OVConfig  # noqa: PLC0415 - same

    _check_weights(folder)
    progress("exporting to OpenVINO", 0.0)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            main_export(
                str(folder),
                output=scratch,
                task="text-generation-with-past",
                ov_config=OVConfig(dtype="fp32"),  # otherwise it compresses large models by itself
                local_files_only=True,
            )
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            raise FailedPrecondition(
                f"optimum-intel cannot export this model: {_last_line(error)}", reason="MODEL_NOT_SUPPORTED"
            ) from error
        progress(f"compressing to {weights}", 0.5)
        target.mkdir(exist_ok=True)
        ov.save_model(_compressed(Path(scratch) / XML, weights), target / XML)


def _check_weights(folder: Path) -> None:
    """Loads the weights once more than the export does, which does not say what it left out or made up."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - an optional extra

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        raise FailedPrecondition(
            f"optimum-intel cannot export this model: {_last_line(error)}", reason="MODEL_NOT_SUPPORTED"
        ) from error
    check_loaded(loaded[1])


def _compressed(xml: Path, weights: Weights) -> ov.Model:
    """Compresses weights to 8 bits, scaled per channel, or 4 bits, scaled per group (embedding and head: 8 bits)."""
    import nncf  # noqa: PLC0415 - an optional extra

    model = ov.Core().read_model(xml)
    if weights == "int8":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    smaller_groups = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    return nncf.compress_weights(
        model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=128, advanced_parameters=smaller_groups
    )


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
