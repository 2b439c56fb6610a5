"""mesh.yaml: what it means, what is refused and how, and reloading."""

import signal
from pathlib import Path

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.config.mesh_config import MeshConfig
from infermesh_router.config.mesh_file import MeshConfigError, MeshFile, read_mesh_config
from infermesh_router.config.mesh_rules import admission_limits, chooser_rules, retention
from infermesh_router.policy.scorers import SCORERS
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, StartWorker
from infermesh_worker.testing.processes import WorkerProcess

GOOD = """
weights: {kv_headroom: 0.5}
cost_per_token:
  devices: {cuda: 2.5}
  endpoints: {"10.0.0.1:50051": 0}
models:
  big: {prefer: cpu, pinned: true, max_waiting: 5, weights: {prefix_affinity: 0}}
  small: {keep_alive_s: 60, max_wait_s: 2}
size_rules:
  - {prefer: gpu, under: 4GB}
  - {prefer: cpu}
aliases:
  fast: small
  split: [{model: small, weight: 9}, {model: big}]
overflow: {start_s: 10, stop_s: 1}
admission: {max_waiting: 7, max_wait_s: 30}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    return path


def test_what_the_file_says_reaches_each_part(tmp_path: Path) -> None:
    config = read_mesh_config(write(tmp_path, GOOD))
    rules = chooser_rules(config)
    weights = {scorer.name: scorer.weight for scorer in rules.default.scorers}
    assert (weights["kv_headroom"], weights["least_cost"], weights["prefix_affinity"]) == (0.5, 0.2, 0.3)
    assert {s.name: s.weight for s in rules.by_model["big"].scorers}["prefix_affinity"] == 0
    assert rules.devices == {"big": "cpu"}
    assert [(rule.device, rule.under_bytes) for rule in rules.size_rules] == [("gpu", 4 * 10**9), ("cpu", None)]
    assert (rules.overflow.start_s, rules.overflow.stop_s) == (10, 1)
    assert (admission_limits(config, "big").max_waiting, admission_limits(config, "big").max_wait_s) == (5, 30)
    assert (admission_limits(config, "other").max_waiting, admission_limits(config, "small").max_wait_s) == (7, 2)
    assert (retention(config, "big").pinned, retention(config, "small").keep_alive_s) == (True, 60)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert read_mesh_config(write(tmp_path, "")) == MeshConfig() == MeshFile().config
    assert chooser_rules(MeshConfig()).default.scorers == SCORERS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("weights:\n  kv: 1\n", r"mesh.yaml:2: weights.kv: is not a setting"),
        ("weights:\n  kv_headroom: -1\n", r":2: weights.kv_headroom: Input should be greater than or equal to 0"),
        ("models:\n  m:\n    prefer: tpu\n", r":3: models.m.prefer: Input should be 'gpu' or 'cpu', not 'tpu'"),
        ("size_rules:\n  - prefer: gpu\n  - under: 3\n", r":3: size_rules.1.prefer: Field required"),
        ("overflow: {start_s: 1, stop_s: 2}\n", r":1: overflow: stop_s \(2\) must be less than start_s \(1\)"),
        ("\naliases:\n  a: b\n  b: c\n", r":2: aliases: a stands for b, which is itself an alias"),
        ("aliases: {a: []}\n", r":1: aliases.a: "),
        ("weights: {}\nweights: {}\n", r":2: found duplicate key"),
        ("weights: [\n", r":\d: "),
        ("- 1\n", r":1: must be a mapping"),
        ("weights: .inf\n", r":1: weights: "),
        ("weights: 2001-99-99\n", r"yaml: month must be"),
        ("weights: " + "[" * 1100, r"yaml: .*recursion"),
        ("admission: {max_wait_s: .nan}\n", r":1: admission.max_wait_s: "),
    ],
)
def test_a_bad_file_is_refused_with_file_line_and_reason(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(MeshConfigError, match=problem):
        read_mesh_config(write(tmp_path, text))


def test_every_problem_is_named_and_a_missing_file_is_one(tmp_path: Path) -> None:
    with pytest.raises(MeshConfigError) as caught:
        read_mesh_config(write(tmp_path, "x: 1\ny: 2\n"))
    assert [line.split(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()] == ["1", "2"]
    with pytest.raises(MeshConfigError, match="No such file"):
        read_mesh_config(tmp_path / "none.yaml")


def test_a_bad_reload_is_logged_and_the_old_one_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = MeshFile(write(tmp_path, "admission: {max_waiting: 3}\n"))
    seen: list[int] = []
    file.follow(lambda config: seen.append(config.admission.max_waiting))
    write(tmp_path, "admission: {max_wait: 4}\n")
    assert not file.reload()
    assert "mesh.yaml:1: admission.max_wait: is not a setting" in caplog.text
    write(tmp_path, "admission: {max_waiting: 5}\n")
    assert file.reload()
    assert seen == [3, 5]
    assert file.config.admission.max_waiting == 5


async def test_a_router_serves_aliases_and_takes_new_ones_on_sighup(start_worker: StartWorker, tmp_path: Path) -> None:
    """In a process of its own, as signals come to one."""
    worker = await start_worker()
    path = write(tmp_path, "aliases: {fast: m, gone: x}\n")
    socket = f"unix:{tmp_path}/admin.sock"
    settings = {"workers": worker.address, "mesh_config": path, "admin_listen": socket}
    process = await WorkerProcess.start("infermesh_router", **settings)
    try:
        async with (
            grpc.aio.insecure_channel(await process.ready()) as channel,
            grpc.aio.insecure_channel(socket) as admin,
        ):
            router = RunningRouter(await process.ready(), channel, socket, admin)
            await router.endpoints_when(lambda listed: all(endpoint.connected for endpoint in listed))
            await check_aliases(router, worker)
            write(tmp_path, "aliases: {other: m}\n")
            process.process.send_signal(signal.SIGHUP)
            stub = router.inference
            async for response in stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=10)):
                worker.become(pb.ENDPOINT_STATE_READY)
                if [model.name for model in response.report.models] == ["m", "other"]:
                    break
            events = [e async for e in stub.Generate(pb.GenerateRequest(model="other", text="hi"))]
            assert events[0].started.model == "m"
    finally:
        assert await process.stop() == 0


async def check_aliases(router: RunningRouter, worker: ScriptedWorker) -> None:
    stub = router.inference
    events = [e async for e in stub.Generate(pb.GenerateRequest(model="fast", text="hi"))]
    assert events[0].started.model == worker.requests[0].model == "m"
    report = (await stub.Health(pb.HealthRequest())).report
    assert [model.name for model in report.models] == ["m", "fast"]
    with pytest.raises(Exception, match="'x' \\(alias 'gone'\\) does not exist"):
        [e async for e in stub.Generate(pb.GenerateRequest(model="gone", text="hi"))]


async def test_a_router_does_not_start_on_a_bad_file(tmp_path: Path) -> None:
    process = await WorkerProcess.start("infermesh_router", mesh_config=write(tmp_path, "x: 1\n"))
    assert await process.wait() == 2
    assert process.log[-1]["message"].endswith("mesh.yaml:1: x: is not a setting of mesh.yaml")
