"""Models that do not generate text report the time of a request, which counts as that of others does."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.api.aggregate import add_loads
from infermesh_router.fleet.reports.model_speeds import ModelSpeeds
from infermesh_router.fleet.reports.report import bound_figures, rates_of, read_report
from infermesh_router.policy.snapshot import EndpointSnapshot


def snapshot(**load: float) -> EndpointSnapshot:
    model = pb.ModelStatus(name="m", state=pb.ENDPOINT_STATE_READY, kind=pb.MODEL_KIND_INFER, load=pb.Load(**load))  # type: ignore[arg-type] # the test knows the fields
    report = pb.HealthReport(state=pb.ENDPOINT_STATE_READY, models=[model], load=model.load)
    bound_figures(report)
    return read_report("a:1", report, lambda _model, reported: rates_of(reported))


def test_time_to_drain_is_the_time_of_a_request_for_each() -> None:
    load = snapshot(running=2, waiting=3, request_s=0.25).load_of("m")
    assert load.work_s == pytest.approx(5 * 0.25)


@pytest.mark.parametrize("figure", [-1.0, float("nan"), float("inf"), 1e12, 1e-12])
def test_a_time_that_cannot_be_is_not_believed(figure: float) -> None:
    assert snapshot(running=1, request_s=figure).load_of("m").decode_tokens_per_s == 0.0


def test_measured_token_rates_count_more() -> None:
    assert rates_of(pb.Load(prefill_tokens_per_s=10, decode_tokens_per_s=20, request_s=1)) == (10, 20)


def test_the_speed_of_a_model_is_remembered() -> None:
    model = pb.ModelStatus(name="m", load=pb.Load(request_s=0.5))
    assert ModelSpeeds().note(pb.HealthReport(models=[model]), 0.0)["m"] == pytest.approx(0.5, rel=1e-3)


def test_two_endpoints_take_half_the_time_together() -> None:
    combined = add_loads([pb.Load(request_s=0.2), pb.Load(request_s=0.2), pb.Load(decode_tokens_per_s=9)])
    assert combined.request_s == pytest.approx(0.1)
