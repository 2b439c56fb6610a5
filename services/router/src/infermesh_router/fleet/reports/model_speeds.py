"""Remembers how fast an endpoint ran each of its models, also after they were unloaded."""

from collections.abc import Iterator, Mapping

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.report import rates_of
from infermesh_router.policy.speed import request_s

HALF_LIFE_S = 3600.0
"""Half-life of a peak of a rate: an endpoint with few sequences measures less than it can do."""


class ModelSpeeds:
    """The best rates of late of each model on one endpoint; forgotten when its device or runtime changes."""

    def __init__(self) -> None:
        self._rates: dict[str, tuple[float, float, float]] = {}
        """Model → prefill rate, decode rate, and when they were noted."""
        self._device: tuple[int, str, str] | None = None

    def note(self, report: pb.HealthReport, now_s: float) -> Mapping[str, float]:
        """Takes over a report; returns model → time of a typical request, in seconds."""
        device = report.device.kind, report.device.name, report.runtime
        if device != self._device:
            self._device, self._rates = device, {}
        for name, load in _loads(report):
            measured_prefill, measured_decode = rates_of(load)
            if measured_prefill and measured_decode:
                prefill, decode, noted_s = self._rates.get(name, (0.0, 0.0, now_s))
                kept = 0.5 ** ((now_s - noted_s) / HALF_LIFE_S)
                prefill, decode = prefill * kept, decode * kept
                self._rates[name] = (
                    max(measured_prefill, prefill),
                    max(measured_decode, decode),
                    now_s,
                )
        return {name: request_s(prefill, decode) for name, (prefill, decode, _) in self._rates.items()}


def _loads(report: pb.HealthReport) -> Iterator[tuple[str, pb.Load]]:
    """The load of each model. An endpoint that reports its total only tells nothing if it has several models."""
    if report.models and not any(model.HasField("load") for model in report.models):
        if len(report.models) == 1:
            yield report.models[0].name, report.load
        return
    for model in report.models:
        yield model.name, model.load
