"""Converts a worker's status to a health report."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.output import EngineLoad
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.hosting.worker_status import AvailableModel, ModelStatus, WorkerStatus
from infermesh_worker.rpc.convert import DEVICE_KINDS
from infermesh_worker.rpc.defaults import to_message
from infermesh_worker.rpc.model_facts import KINDS, to_limits, to_metadata

_STATES = {
    ServingState.LOADING: pb.ENDPOINT_STATE_LOADING,
    ServingState.READY: pb.ENDPOINT_STATE_READY,
    ServingState.DRAINING: pb.ENDPOINT_STATE_DRAINING,
    ServingState.FAILED: pb.ENDPOINT_STATE_FAILED,
}


def to_report(
    status: WorkerStatus,
    version: str,
    started_at: datetime,
    kinds: Sequence[ModelKind] = (),
    folder: pb.ModelsFolder | None = None,
) -> pb.HealthReport:
    """The health report of a worker that can host models of these kinds.

    `folder`: its models folder, but for what changes.
    """
    report = pb.HealthReport(
        state=_STATES[status.state],
        message=status.message,
        models=map(_model_status, status.models),
        load=_load(status.load, status.max_running, status.max_waiting),
        version=version,
        available=map(_available_model, status.available),
        kinds=[KINDS[kind] for kind in kinds],
        models_folder=folder,
    )
    if folder is not None:
        report.models_folder.import_changes = status.import_changes
    report.started_at.FromDatetime(started_at)
    if (device := status.device) is not None:
        report.runtime = device.runtime
        report.device.kind = DEVICE_KINDS[device.kind]
        report.device.name = device.name
        report.device.memory_total_bytes = device.memory_total_bytes
        report.device.memory_free_bytes = device.memory_free_bytes
    return report


def _load(load: EngineLoad, max_running: int, max_waiting: int) -> pb.Load:
    return pb.Load(
        running=load.running,
        waiting=load.waiting,
        waiting_tokens=load.waiting_tokens,
        kv_cache_usage=load.kv_cache_usage,
        prefill_tokens_per_s=load.prefill_tokens_per_s,
        decode_tokens_per_s=load.decode_tokens_per_s,
        kv_cache_tokens=load.kv_cache_tokens,
        preemptions=load.preemptions,
        cached_tokens=load.cached_tokens,
        generated_tokens=load.generated_tokens,
        max_running=max_running,
        max_waiting=max_waiting,
        request_s=load.request_s,
    )


def _available_model(model: AvailableModel) -> pb.AvailableModel:
    message = pb.AvailableModel(
        name=model.name,
        size_bytes=model.size_bytes,
        memory_bytes=model.memory_bytes,
        context_length=model.context_length,
        has_chat_template=model.has_chat_template if model.kind == GENERATE else None,
        answer_style=None if model.answer_style is None else pb.AnswerStyle(**asdict(model.answer_style)),
        defaults=None if model.generation is None else to_message(model.generation),
        kind=KINDS[model.kind],
        inputs=map(to_metadata, model.inputs),
        outputs=map(to_metadata, model.outputs),
        batching=to_limits(model.batching),
        voices=model.voices,
        takes_images=model.takes_images if model.kind == GENERATE else None,
    )
    message.created_at.FromDatetime(model.created)
    return message


def _model_status(model: ModelStatus) -> pb.ModelStatus:
    opened, engine, info = model.opened, model.engine, model.engine.info
    loaded = ServingState.LOADING if info is None else ServingState.READY
    message = pb.ModelStatus(
        name=opened.name,
        state=_STATES[loaded if engine.state is ServingState.DRAINING else engine.state],
        context_length=info.served_context_length if info else opened.context_length,
        size_bytes=info.weights_bytes if info and info.weights_bytes else opened.size_bytes,
        memory_bytes=model.memory_bytes,
        sequences=model.sequences,
        pinned=model.pinned,
        load=_load(engine.load, model.bound.max_running, model.bound.max_waiting),
        keep_alive_s=model.keep_alive_s,
        kv_cache_bytes=model.kv_cache_bytes,
        home=model.home,
        kind=KINDS[opened.kind],
        inputs=map(to_metadata, engine.facts.inputs if engine.facts else opened.inputs),
        outputs=map(to_metadata, engine.facts.outputs if engine.facts else opened.outputs),
        batching=to_limits(engine.facts.limits if engine.facts else opened.batching),
    )
    message.created_at.FromDatetime(opened.created)
    if model.last_used_at is not None:
        message.last_used_at.FromDatetime(model.last_used_at)
    if (progress := model.progress) is not None:
        message.load_fraction = progress.fraction
        if progress.left_s is not None:
            message.load_left_s = progress.left_s
    return message
