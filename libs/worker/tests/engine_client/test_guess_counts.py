"""Guesses are counted for Prometheus, also over engine processes that count from 0 again."""

from infermesh_engine.requests.output import EngineLoad
from infermesh_worker.engine_client.metrics import WorkerCollector
from infermesh_worker.engine_client.request_meter import RequestMeters


def test_guesses_are_counted_over_restarts() -> None:
    meters = RequestMeters()
    meter = meters.of("m")
    meter.load_came(EngineLoad(drafted_tokens=9, accepted_tokens=4))
    meter.engine_ended()
    meter.load_came(EngineLoad(drafted_tokens=2, accepted_tokens=1))
    samples = {
        sample.name: sample.value for metric in WorkerCollector(meters, dict).collect() for sample in metric.samples
    }
    assert samples["vllm:spec_decode_num_draft_tokens_total"] == 11
    assert samples["vllm:spec_decode_num_accepted_tokens_total"] == 5
