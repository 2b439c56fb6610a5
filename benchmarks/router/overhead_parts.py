"""Starts the processes that router_overhead.py measures: worker, router, Envoy, and peers in venvs of their own."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from infermesh_envoy import Address, EnvoyOptions, command, render

BUILD = Path(__file__).resolve().parents[2] / "build"
_READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another router, from the Python index."""

    name: str
    requirement: str
    command: Callable[[Path, str, int], Sequence[str]]
    """Given its bin folder, the endpoint and the port to listen on, returns its command line."""
    environment: Mapping[str, str] = field(default_factory=dict)


def _litellm(binaries: Path, backend: str, port: int) -> Sequence[str]:
    config = Path(tempfile.mkdtemp()) / "litellm.yaml"
    model = {"model": "openai/simulated", "api_base": f"http://{backend}/v1", "api_key": "benchmark"}
    lines = ["model_list:", "  - model_name: simulated", "    litellm_params:"]
    config.write_text("\n".join([*lines, *(f"      {key}: {value}" for key, value in model.items())]) + "\n")
    return [str(binaries / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "vllm-router",
            "vllm-router==0.1.17",
            lambda binaries, backend, port: [
                *(str(binaries / "vllm-router"), "--worker-urls", f"http://{backend}", "--policy", "round_robin"),
                *("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())),
            ],
        ),
        Peer(
            "smg",
            "smg==1.13.0",
            lambda binaries, backend, port: [
                *(str(binaries / "smg"), "launch", "--worker-urls", f"http://{backend}", "--policy", "round_robin"),
                *("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())),
            ],
        ),
        Peer(
            "litellm",
            "litellm[proxy]==1.106.2",
            _litellm,
            {"LITELLM_MASTER_KEY": "benchmark", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # keeps it off the network
        ),
    )
}


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_process(
    parts: ExitStack, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> psutil.Process:
    """Starts a process that ends with `parts`; its output is discarded."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
    process = subprocess.Popen(
        arguments, env=clean | dict(environment or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    parts.callback(process.wait)
    parts.callback(process.terminate)
    return psutil.Process(process.pid)


def run_worker(parts: ExitStack, itl_s: float) -> str:
    """Starts a simulated worker whose streams do not slow each other; returns its address."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"LISTEN": address, "SIM_ITL_S": str(itl_s), "SIM_SLOPE_S": "0", "SIM_PREFILL_TOKENS_PER_S": "1000000"}
    run_process(parts, [sys.executable, "-m", "infermesh_worker.testing.simulated"], _variables(settings))
    return address


def run_router(parts: ExitStack, worker: str, *, frames: bool = True, **more: str) -> tuple[str, psutil.Process]:
    """Starts our router in front of the worker, with more settings; returns its address and process.

    `frames`: whether the worker's streams come in frames, or each in a call of its own.
    """
    address = f"127.0.0.1:{free_port()}"
    settings = {"LISTEN": address, "WORKERS": worker, "FRAMES": str(frames).lower(), **more}
    return address, run_process(parts, [sys.executable, "-m", "infermesh_router"], _variables(settings))


def run_envoy(parts: ExitStack, router: str, *more: str) -> tuple[str, psutil.Process]:
    """Starts Envoy in front of one router or several, and waits until it answers.

    Returns its REST address and process.
    """
    http, grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    options = EnvoyOptions(
        http=Address.parse(http),
        grpc=Address.parse(grpc),
        router=Address.parse(router),
        more_routers=tuple(map(Address.parse, more)),
        admin_port=free_port(),
    )
    config = Path(parts.enter_context(tempfile.TemporaryDirectory())) / "envoy.yaml"
    config.write_text(render(options), encoding="utf-8")
    process = run_process(parts, [str(part) for part in command(config)])
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"http://{http}/health").status_code == httpx.codes.OK:
                return http, process
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(
        f"Envoy at {http} did not answer /health with 200 within {_READY_S:g} s: it, the router or the worker failed."
    )


def install(peer: Peer) -> Path:
    """Installs the peer in its own venv, once; returns the venv's bin folder. Raises CalledProcessError."""
    binaries = BUILD / f"venv-{peer.name}" / "bin"
    if not binaries.exists():
        subprocess.run([sys.executable, "-m", "venv", str(binaries.parent)], check=True)
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([str(binaries / "pip"), "install", *quiet, peer.requirement], check=True, stdout=sys.stderr)
    return binaries


async def run_peer(parts: ExitStack, peer: Peer, backend: str) -> tuple[str, psutil.Process]:
    """Starts the peer and waits until it answers; returns its address and process."""
    binaries = await asyncio.to_thread(install, peer)
    port = free_port()
    process = run_process(parts, peer.command(binaries, backend, port), peer.environment)
    address = f"127.0.0.1:{port}"
    await wait_for_http(address, "/v1/models")
    return address, process


async def wait_for_http(address: str, path: str) -> None:
    """Waits until the server answers 200. Raises TimeoutError."""
    headers = {"authorization": "Bearer benchmark"}
    async with asyncio.timeout(_READY_S), httpx.AsyncClient(trust_env=False, headers=headers) as client:
        while True:
            try:
                if (await client.get(f"http://{address}{path}")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"INFERMESH_{name}": value for name, value in settings.items()}
