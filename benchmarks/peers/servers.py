"""The servers that are compared: the mesh without and with guesses ahead, llama.cpp's and vLLM's on processors."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.engine.running_mesh import MODEL, free_port, running_mesh, supervisor_pid
from benchmarks.peers.installing import BUILD, ROOM, PeerError, install, reason
from benchmarks.peers.processes import Running, Start, running

_CONTEXT_TOKENS = 1024
"""For each stream; prompt and answer of the longest question have room in it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all servers are started for."""

    folder: Path
    """The model's, as `infermesh models import` made it."""
    streams: int
    """Most at once."""
    processors: Sequence[int]
    """The processors that each may use; numbers as in /proc/cpuinfo."""
    ready_limit_s: float
    """How long a peer may take until it is ready, once installed."""


class Server(Protocol):
    """One server, from its installation to its end."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...

    def start(self, plan: Plan) -> AbstractContextManager[Running]:
        """Installs it if need be and runs it in the context. Raises PeerError, by which the run goes on without it."""
        ...


@dataclass(frozen=True, slots=True)
class Mesh:
    """Our mesh behind Envoy, as `make up` starts it."""

    name: str
    speculation: str
    weights: str = "the GGUF file's (Q4_1)"

    @contextmanager
    def start(self, plan: Plan) -> Iterator[Running]:
        with running_mesh(plan.folder.parent, SPECULATION=self.speculation) as (state, ready_s):
            yield Running(int(state["http"].rpartition(":")[2]), supervisor_pid(state["http"]), ready_s)


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp's server: as its wheel has it, which uses AVX2 at most, or compiled for this processor."""

    name: str
    compiled: bool
    weights: str = "the GGUF file's (Q4_1)"

    @contextmanager
    def start(self, plan: Plan) -> Iterator[Running]:
        settings = {"PIP_NO_BINARY": "xllamacpp"} if self.compiled else {}
        python = install(self.name, ROOM / "llama_cpp.lock", settings) / "python"
        port = free_port()
        numbers = (port, plan.streams, _CONTEXT_TOKENS, len(plan.processors))
        model = (str(plan.folder / "model.gguf"), MODEL)
        command = [str(python), str(ROOM / "serve_llama_cpp.py"), *model, *map(str, numbers)]
        with running(Start(self.name, command, port, BUILD / f"peer-{self.name}.log", plan.ready_limit_s)) as found:
            yield found


@dataclass(frozen=True, slots=True)
class Vllm:
    """vLLM's CPU build, on the GGUF file's weights written out in bf16, since it has no CPU kernels for GGUF's."""

    name: str = "vllm"
    weights: str = "the GGUF file's as bf16"

    @contextmanager
    def start(self, plan: Plan) -> Iterator[Running]:
        binaries = install(self.name, ROOM / "vllm.lock")
        folder, port = self._written(binaries, plan.folder), free_port()
        command = [
            # not `vllm serve`, which looks for a package called vllm
            *(str(binaries / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
            *("--served-model-name", MODEL, "--dtype", "bfloat16"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--max-model-len", str(_CONTEXT_TOKENS), "--max-num-seqs", str(plan.streams)),
        ]
        settings = {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, plan.processors)),  # by itself it leaves one out
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin",
        }
        how = Start(self.name, command, port, BUILD / f"peer-{self.name}.log", plan.ready_limit_s, settings)
        with running(how) as found:
            yield found

    def _written(self, binaries: Path, folder: Path) -> Path:
        target = folder.parent.parent / f"peer-vllm-{folder.name}"
        command = [str(binaries / "python"), str(ROOM / "write_bf16.py"), str(folder), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"{self.name}: the weights could not be written in bf16: {reason(done.stderr)}")
        return target


SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Mesh("mesh", "off"),
        Mesh("mesh_speculating", "auto"),
        LlamaCpp("llama.cpp", compiled=False),
        LlamaCpp("llama.cpp-compiled", compiled=True),
        Vllm(),
    )
}
USUAL = ("mesh", "mesh_speculating", "llama.cpp", "vllm")
"""Those that are compared unless others are named: compiling takes from minutes to an hour."""
OURS = ("mesh", "mesh_speculating")


def say(line: str) -> None:
    """Tells those who wait; standard output is the document's."""
    print(line, file=sys.stderr, flush=True)
