"""Builds a model in the engine process from a model folder: runner, tokenizer and end-of-sequence tokens."""

import logging
from collections.abc import Mapping
from typing import Any

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.building import open_for_build

from .convert_model import XML
from .gguf_graph.build import is_ours
from .runner import OpenVinoOptions, OpenVinoRunner

_log = logging.getLogger(__name__)


def build_model(options: Mapping[str, Any]) -> BuiltModel:
    """Builds the model in `options["folder"]`; the other options are "verify" and the fields of OpenVinoOptions.

    Raises FailedPrecondition when the folder has no OpenVINO graph, or one that cannot be served.
    """
    folder, chosen = open_for_build(options)
    xml = folder.path / "openvino" / XML
    if "openvino" in folder.manifest.not_for:
        raise FailedPrecondition(
            f"{folder.manifest.name} cannot run on worker-cpu: its converter could not take it at the import",
            reason="MODEL_NOT_SUPPORTED",
        )
    if not xml.exists():
        raise FailedPrecondition(
            f"{folder.path} has no OpenVINO graph: import the model again where worker-cpu is installed",
            reason="MODEL_NOT_CONVERTED",
        )
    if folder.manifest.format == "gguf" and not is_ours(xml):
        _log.warning(
            "an older version made this graph, and ignored some of the GGUF file's keys: import the model again",
            extra={"model": folder.manifest.name},
        )
    runner = OpenVinoRunner(
        xml,
        OpenVinoOptions(
            **chosen,
            context_length=folder.manifest.context_length,
            weights_bytes=xml.with_suffix(".bin").stat().st_size,
        ),
    )
    return BuiltModel(
        runner=runner,
        tokenizer=folder.load_tokenizer(),
        eos_token_ids=frozenset(folder.manifest.eos_token_ids),
        name=folder.manifest.name,
        folder=folder.path,
    )
