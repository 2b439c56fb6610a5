"""Fixtures: a tiny model of each architecture, the real model, and sequences to feed to a runner."""

import os
import subprocess
import sys

# as the worker does; must be set before torch starts its threads
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from infermesh_engine.runners.runner import Batch, ModelRunner
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import PROMPTS, Harness
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.build_model import build_model
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.load_runner import choose_kernels, load_runner
from infermesh_worker_xpu.loading import weights
from infermesh_worker_xpu.options import TorchOptions
from tests.architectures.configs import save_tiny, tiny_config
from tests.architectures.two_ranks import OPTIONS, PairRunner, TwoRanks, two_ranks

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
TinyFolder = Callable[[str], Path]
MakeRunner = Callable[..., TorchRunner]
MakePair = Callable[..., PairRunner]
MakeHarness = Callable[..., Harness]
Reference = Callable[[str, Ints], Floats]
RunPython = Callable[..., str]
RunInterpreted = Callable[[Path], None]

BLOCK = 32


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> TinyFolder:
    """The folder of a tiny model, by its name in CONFIGS."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_tiny(tiny_config(name), tmp_path_factory.mktemp(name))
        return made[name]

    return folder


@pytest.fixture(scope="session")
def ranks() -> Iterator[TwoRanks]:
    with two_ranks() as ranks:
        yield ranks


@pytest.fixture(scope="session")
def pair(ranks: TwoRanks, tiny_folder: TinyFolder) -> MakePair:
    """Loads a tiny model, or that of a folder, on two ranks, with the fields of TorchOptions."""
    return lambda model, **options: ranks.load(tiny_folder(model) if isinstance(model, str) else model, **options)


@pytest.fixture(scope="session")
def alone(tiny_folder: TinyFolder) -> MakeRunner:
    """The same on one rank."""

    def load(model: str | Path, **options: Any) -> TorchRunner:
        folder = tiny_folder(model) if isinstance(model, str) else model
        return load_runner(folder, TorchOptions(**{**OPTIONS, **options}))

    return load


@pytest.fixture(scope="session")
def tiny_runner(tiny_folder: TinyFolder) -> MakeRunner:
    """Makes a runner of a tiny model, in fp32 by default, with the fields of TorchOptions."""

    def runner(name: str, **options: Any) -> TorchRunner:
        chosen: dict[str, Any] = {
            "device": "cpu",
            "dtype": "fp32",
            "kv_cache_bytes": 8 << 20,
            "context_length": 512,
        } | options
        return load_runner(tiny_folder(name), TorchOptions(**chosen))

    return runner


class EagerGraph:
    """A graph whose replay runs the work again, into the memory of the first result, as a captured graph does."""

    def __init__(self, check: Callable[[Tensor], None] | None = None) -> None:
        """`check` may refuse what a capture computes."""
        self.replays = 0
        self._check = check

    def capture(self, work: Callable[[], Tensor]) -> None:
        self._work = work
        self._result = work()
        if self._check is not None:
            self._check(self._result)

    def replay(self) -> Tensor:
        self.replays += 1
        return self._result.copy_(self._work())


@pytest.fixture(scope="session")
def eager_graph() -> type[EagerGraph]:
    return EagerGraph


@pytest.fixture
def made() -> list[EagerGraph]:
    """The graphs that graph_runner's runner made, in order of capture."""
    return []


@pytest.fixture
def graph_runner(tiny_folder: TinyFolder, made: list[EagerGraph]) -> MakeRunner:
    """Makes a runner with graphs of steps of up to 8 sequences and 128 tokens, with the fields of TorchOptions."""

    def runner(name: str, *, check: Callable[[Tensor], None] | None = None, **changes: Any) -> TorchRunner:
        chosen: dict[str, Any] = {"device": "cpu", "dtype": "fp32", "kv_cache_bytes": 8 << 20, "context_length": 512}
        options = TorchOptions(**{**chosen, "max_sequences": 8, "max_batched_tokens": 128, **changes})
        device = devices.select("cpu", 0)
        model = weights.load(tiny_folder(name), device, torch.float32, options)
        attention, kernels = choose_kernels(device, options)

        def make_graph() -> EagerGraph:
            made.append(EagerGraph(check))
            return made[-1]

        facts = RunnerFacts(attention, weights.size_bytes(model))
        return TorchRunner(model, device, kernels, options, facts, new_pool=lambda: make_graph)

    return runner


@pytest.fixture(scope="session")
def reference(tiny_folder: TinyFolder) -> Reference:
    """Logits [T, vocab] of transformers' own eager forward pass over a whole sequence."""
    models: dict[str, PreTrainedModel] = {}

    def logits(name: str, ids: Ints) -> Floats:
        if name not in models:
            models[name] = AutoModelForCausalLM.from_pretrained(
                tiny_folder(name), attn_implementation="eager", dtype=torch.float32
            )
        with torch.inference_mode():
            found: Floats = models[name](input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
            return found

    return logits


@dataclass
class Feed:
    """Sequences of tokens, in scattered blocks, and how many tokens of each a runner has computed."""

    runner: ModelRunner
    sequences: list[Ints]
    seed: int = 0
    done: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.done = [0] * len(self.sequences)
        counts = [-(-len(ids) // BLOCK) for ids in self.sequences]
        shuffled = np.random.default_rng(self.seed).permutation(self.runner.info.num_blocks)[: sum(counts)]
        self.tables = np.split(shuffled.astype(np.int32), np.cumsum(counts)[:-1])

    def batch(self, runs: dict[int, int], inverse_temperature: float = 1.0) -> Batch:
        """A batch with the next tokens of some sequences: their number by index. The last of each has a row."""
        past = [self.done[i] for i in runs]
        new = list(runs.values())
        blocks = [self.tables[i][: -(-(self.done[i] + n) // BLOCK)] for i, n in runs.items()]
        begins = np.cumsum([0, *new]).astype(np.int32)
        return Batch(
            token_ids=np.concatenate([self.sequences[i][self.done[i] : self.done[i] + n] for i, n in runs.items()]),
            positions=np.concatenate([np.arange(p, p + n) for p, n in zip(past, new, strict=True)]),
            past_lens=np.array(past, np.int32),
            begins=begins,
            blocks=np.concatenate(blocks),
            block_begins=np.cumsum([0, *map(len, blocks)]).astype(np.int32),
            max_context_tokens=max(p + n for p, n in zip(past, new, strict=True)),
            rows=(begins[1:] - 1).astype(np.int32),
            inverse_temperatures=np.full(len(runs), inverse_temperature, np.float32),
        )

    def run(self, runs: dict[int, int]) -> dict[int, Floats]:
        """Computes the next tokens. Returns the logits after the last token of each sequence."""
        logits = self.runner.run(self.batch(runs))
        for i, n in runs.items():
            self.done[i] += n
        return {i: logits.row(row).copy() for row, i in enumerate(runs)}


@pytest.fixture(scope="session")
def feed() -> type[Feed]:
    return Feed


@pytest.fixture(scope="session")
def harness_of() -> MakeHarness:
    """Makes an engine for a model, with the fields of EngineConfig."""
    return Harness


@pytest.fixture(scope="session")
def prompts() -> tuple[str, ...]:
    return PROMPTS


@pytest.fixture(scope="session")
def exact_model(default_model: Path) -> Iterator[BuiltModel]:
    model = build_model({"folder": str(default_model), "device": "cpu", "numerics": "exact", "kv_cache_bytes": 1 << 30})
    yield model
    model.runner.close()


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Runs Python with arguments and environment variables on this checkout. Returns its output; fails if it fails."""

    def run(*arguments: str, **variables: str) -> str:
        path = os.pathsep.join([str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": path, **variables},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def run_interpreted(run_python: RunPython) -> RunInterpreted:
    """Runs a test file in a process of its own, under Triton's interpreter."""

    def run(path: Path) -> None:
        pytest.importorskip("triton")
        options = ("-q", "-x", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist")
        siblings = ("-o", f"pythonpath={path.parent}")  # helper modules of the test's folder
        run_python("-m", "pytest", *options, *siblings, str(path), TRITON_INTERPRET="1", OMP_NUM_THREADS="1")

    return run
