"""The speed of each model on an endpoint, from its reports."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.model_speeds import HALF_LIFE_S, ModelSpeeds


def load(prefill: float, decode: float) -> pb.Load:
    return pb.Load(prefill_tokens_per_s=prefill, decode_tokens_per_s=decode)


def report(*models: pb.ModelStatus, runtime: str = "openvino", total: pb.Load | None = None) -> pb.HealthReport:
    return pb.HealthReport(models=models, runtime=runtime, load=total)


def test_speed_of_a_model_outlives_it_and_its_peak_fades_slowly() -> None:
    speeds = ModelSpeeds()
    assert speeds.note(report(pb.ModelStatus(name="a"), total=load(512, 128)), 0) == {"a": 2.0}
    assert speeds.note(report(), 1) == {"a": 2.0}
    later = speeds.note(report(pb.ModelStatus(name="a"), total=load(1, 1)), HALF_LIFE_S)
    assert later == {"a": 4.0}


def test_speeds_of_several_models_come_from_their_own_loads_only() -> None:
    speeds = ModelSpeeds()
    both = [pb.ModelStatus(name=name) for name in "ab"]
    assert speeds.note(report(*both, total=load(512, 128)), 0) == {}
    own = [pb.ModelStatus(name="a", load=load(512, 64)), pb.ModelStatus(name="b", load=load(0, 0))]
    assert speeds.note(report(*own, total=load(512, 128)), 1) == {"a": 3.0}


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1e12, float("nan")])
def test_implausible_rates_are_not_speeds(rate: float) -> None:
    assert ModelSpeeds().note(report(pb.ModelStatus(name="a"), total=load(512, rate)), 0) == {}


def test_speeds_are_forgotten_when_the_runtime_changes() -> None:
    speeds = ModelSpeeds()
    speeds.note(report(pb.ModelStatus(name="a"), total=load(512, 128)), 0)
    assert speeds.note(report(pb.ModelStatus(name="a"), runtime="torch"), 1) == {}
