"""`infermesh up` with several CPU workers and routers: workers share the processors, and one goes on for another."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infermesh_client.mesh.ports import pick_free_ports
from tests.e2e.test_up_down import MODEL, Home, wait_for

PROMPT = "Count slowly from one to twenty, in words."
TOKENS = 64
ADMIN = "INFERMESH_ADMIN_LISTEN"


@pytest.fixture(scope="module")
def home(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("several")
    variables = {
        "INFERMESH_HOME": str(root),
        "INFERMESH_MODELS": str(default_model.parent),
        "INFERMESH_HTTP_PORT": str(pick_free_ports(1)[0]),
        "INFERMESH_GRPC_PORT": str(pick_free_ports(1)[0]),
        "INFERMESH_NUMERICS": "exact",
        "INFERMESH_KV_CACHE_BYTES": "128MiB",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
    home = Home(root, {**others, **variables})
    started = home.run("up", "--workers", "cpu:0,cpu:1", "--routers", "2")
    assert started.returncode == 0, started.stderr
    yield home
    home.run("down")
    assert home.processes() == []


def endpoints(home: Home) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = httpx.get(f"{home.url}/mesh/v1/endpoints", timeout=10).json()["endpoints"]
    return listed


def both_ready(home: Home) -> bool:
    return [endpoint["state"] for endpoint in endpoints(home)] == ["ready", "ready"]


def worker(home: Home, address: str) -> psutil.Process:
    """The front process that listens there."""
    fronts = [process for process in home.processes() if "infermesh_worker_cpu" in process.cmdline()]
    return next(process for process in fronts if process.environ()["INFERMESH_LISTEN"] == address)


def masks(process: psutil.Process) -> set[frozenset[int]]:
    """The processors that its threads, and those of the processes below it, may use."""
    family = [process, *process.children(recursive=True)]
    threads = [thread.id for each in family for thread in each.threads()]
    return {frozenset(os.sched_getaffinity(thread)) for thread in threads}


@contextmanager
def stream(home: Home) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    """An answer, and its text as it comes."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS, "stream": True}
    sampling = {"temperature": 0.8, "seed": 7}
    url = f"{home.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body | sampling, timeout=60) as response:
        yield response, _texts(response)


def _texts(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if line and data != "[DONE]":
            document = json.loads(data)
            assert "error" not in document, document
            yield from (choice["delta"].get("content") or "" for choice in document["choices"])


def test_each_worker_has_processors_and_memory_of_its_own(home: Home) -> None:
    wait_for(lambda: both_ready(home))
    listed = endpoints(home)
    assert [endpoint["name"] for endpoint in listed] == ["cpu:0", "cpu:1"]
    fronts = [worker(home, endpoint["address"]) for endpoint in listed]
    assert [front.environ()["INFERMESH_CPU_PART"] for front in fronts] == ["0/2", "1/2"]
    (first,), (second,) = (masks(front) for front in fronts)
    assert first
    assert second
    assert first | second <= os.sched_getaffinity(0)
    assert not first & second
    totals = [int(endpoint["device"]["memory_total_bytes"]) for endpoint in listed]
    assert sum(totals) <= psutil.virtual_memory().total
    assert all("processor" in endpoint["device"]["name"] for endpoint in listed)


def test_a_stream_goes_on_at_the_other_worker(home: Home) -> None:
    wait_for(lambda: both_ready(home))
    with stream(home) as (_, texts):
        undisturbed = "".join(texts)
    with stream(home) as (response, texts):
        begun = next(text for text in texts if text)
        address = response.headers["x-infermesh-endpoint"]
        worker(home, address).kill()
        assert begun + "".join(texts) == undisturbed
    (receipt,) = httpx.get(f"{home.url}/mesh/v1/requests?limit=1").json()["receipts"]
    (move,) = receipt["failovers"]
    assert move["from_endpoint"] == address != move["to_endpoint"]
    wait_for(lambda: both_ready(home))


def test_the_command_reaches_the_mesh_while_a_router_is_down(home: Home) -> None:
    admin = home.root / "run" / "admin.sock"
    first = next(process for process in home.processes() if process.environ().get(ADMIN) == f"unix:{admin}")
    first.suspend()  # so that the supervisor cannot start it again
    admin.rename(admin.with_suffix(".away"))  # nobody listens there
    try:
        listed = json.loads(home.run("status", "--json").stdout)["endpoints"]
        assert [endpoint["connected"] for endpoint in listed] == [True, True]
    finally:
        admin.with_suffix(".away").rename(admin)
        first.resume()
    again = home.run("up")
    assert (again.returncode, "already running" in again.stdout) == (0, True)
    other = home.run("up", "--routers", "3")
    assert (other.returncode, "it runs 2 routers, not 3" in other.stderr) == (1, True)
