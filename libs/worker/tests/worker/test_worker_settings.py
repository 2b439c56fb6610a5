"""Settings from the environment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infermesh_runtime.settings import SettingsError, read
from infermesh_worker.settings import WorkerSettings
from infermesh_worker.testing.simulated import SimulatedSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"INFERMESH_{name.upper()}", value)

    return set_variables


def test_models_root_follows_home(environment: Callable[..., None]) -> None:
    assert read(WorkerSettings).models_root == Path("~/.infermesh/models").expanduser()
    environment(home="/data")
    assert read(WorkerSettings).models_root == Path("/data/models")
    environment(models="/models")
    assert read(WorkerSettings).models_root == Path("/models")


def test_kv_cache_bytes_takes_units(environment: Callable[..., None]) -> None:
    assert read(WorkerSettings).kv_cache_bytes is None
    environment(kv_cache_bytes="2GiB")
    assert read(WorkerSettings).kv_cache_bytes == 2 * 1024**3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_sequences", "0"),
        ("max_sequences", "many"),
        ("numerics", "quick"),
        ("kv_cache_bytes", "2 parsecs"),
        ("prefix_caching", "perhaps"),
        ("threads", "-1"),
        ("max_batched_tokens", "63"),
        ("max_waiting", "-1"),
        ("memory_bytes", "0"),
        ("keep_alive_s", "-1"),
        ("keep_alive_s", "nan"),
        ("routers", "router"),
        ("advertise", "here"),
    ],
)
def test_malformed_value_is_named(environment: Callable[..., None], name: str, value: str) -> None:
    environment(**{name: value})
    with pytest.raises(SettingsError, match=f"INFERMESH_{name.upper()}"):
        read(WorkerSettings)


def test_simulated_models_have_sizes(environment: Callable[..., None]) -> None:
    environment(sim_models="a:1GiB, b/c:d:20 ,", sim_memory_bytes="2GiB")
    settings = read(SimulatedSettings)
    assert settings.sim_models == (("a", 1 << 30), ("b/c:d", 20))
    assert settings.model_bytes("a") == 1 << 30
    assert settings.model_bytes("simulated") == 0


@pytest.mark.parametrize("value", ["a", "a:many", "a:1,b"])
def test_simulated_model_without_a_size_is_refused(environment: Callable[..., None], value: str) -> None:
    environment(sim_models=value)
    with pytest.raises(SettingsError, match="INFERMESH_SIM_MODELS"):
        read(SimulatedSettings)


def test_simulated_device_is_one_of_ours(environment: Callable[..., None]) -> None:
    environment(sim_device="tpu")
    with pytest.raises(SettingsError, match="INFERMESH_SIM_DEVICE"):
        read(SimulatedSettings)
