"""The status of several models together."""

from datetime import UTC, datetime
from typing import Any

from infermesh_engine.requests.output import EngineLoad
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.hosting.worker_status import ModelStatus, overall_state, sum_loads
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model


def model(*, home: bool = True, **engine: Any) -> ModelStatus:
    return ModelStatus(
        opened=opened_model(SimulatedSettings.model_validate({})),
        engine=EngineStatus(**engine),
        memory_bytes=55,
        sequences=3,
        bound=QueueBound(max_running=8, max_waiting=9),
        pinned=True,
        last_used_at=datetime(2026, 1, 3, tzinfo=UTC),
        home=home,
    )


def test_a_worker_is_ready_when_a_model_is_or_when_it_was_started_for_none() -> None:
    failed = model(state=ServingState.FAILED, message="no graph")
    assert overall_state([failed]) == (ServingState.FAILED, "no graph")
    assert overall_state([failed, model(home=False, state=ServingState.LOADING)]) == (ServingState.FAILED, "no graph")
    assert overall_state([failed, model(home=False, state=ServingState.READY)]) == (ServingState.READY, "")
    assert overall_state([]) == (ServingState.READY, "")
    assert overall_state([model(home=False, state=ServingState.LOADING)]) == (ServingState.READY, "")


def test_loads_are_summed_and_the_cache_usage_is_weighted() -> None:
    total = sum_loads(
        [EngineLoad(running=2, kv_cache_usage=0.5, kv_cache_tokens=100), EngineLoad(running=1, kv_cache_tokens=300)]
    )
    assert (total.running, total.kv_cache_tokens, total.kv_cache_usage) == (3, 400, 0.125)
    assert sum_loads([]) == EngineLoad()
