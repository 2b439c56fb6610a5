"""The benchmarks of worker-xpu run to the end, and gpu.py needs few packages."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

if TYPE_CHECKING:
    from conftest import TinyFolder

REPOSITORY = Path(__file__).resolve().parents[3]
BENCHMARKS = REPOSITORY / "benchmarks" / "torch_worker"
INSTALLED = ("torch", "triton", "transformers", "numpy")
"""What gpu.py needs, besides the dependencies of these."""
NOT_INSTALLED = ("pydantic", "msgspec", "llguidance", "psutil", "grpc", "infermesh_engine", "torchao", "accelerate")
"""What gpu.py must run without. Some versions of huggingface_hub require pydantic, but no model needs it."""
SMALL = ["--rounds", "1", "--streams", "1", "3", "--prompt-tokens", "20", "--new-tokens", "12"]


def closure(*names: str) -> dict[str, metadata.Distribution]:
    """The named distributions and all their dependencies, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with INSTALLED and nothing else, not even our own packages."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    for distribution in closure(*INSTALLED).values():
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__", *NOT_INSTALLED}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return python


def run(python: str | Path, script: str, *arguments: str) -> dict[str, Any]:
    """Runs a benchmark; returns the JSON document on its last line of output."""
    command = [str(python), str(BENCHMARKS / script), *arguments]
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-4000:]
    document: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return document


def test_gpu_needs_no_package_beyond_torch_triton_transformers_and_numpy(bare_python: Path) -> None:
    for module in NOT_INSTALLED:
        absent = subprocess.run([bare_python, "-c", f"import {module}"], check=False, capture_output=True)
        assert b"ModuleNotFoundError" in absent.stderr, module
    check = ["--checked", "2", "--check-tokens", "16", "--dtype", "fp32"]
    document = run(bare_python, "gpu.py", "--device", "cpu", "--tiny", *SMALL, *check)
    assert document["benchmark"] == "gpu"
    assert document["greedy"]["agrees"], document["greedy"]
    assert document["greedy"]["tokens_compared"] > 0
    assert [result["streams"] for result in document["results"]] == [1, 3]
    for result in document["results"]:
        assert all(speed > 0 for speed in result["tokens_per_s"].values())
    assert document["results"][0]["share_of_bound"] > 0
    assert document["results"][0]["target_tokens_per_s"] == pytest.approx(
        0.6 * document["bound_tokens_per_s"], rel=1e-3
    )
    assert document["weights_bytes"] > 400_000


def test_xpu_compares_with_transformers_on_processors(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    for file in tiny_folder("llama").iterdir():
        (tmp_path / file.name).symlink_to(file)
    words = {f"w{i}": i for i in range(160)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(tmp_path / "tokenizer.json"))
    arguments = ["--folder", str(tmp_path), "--dtype", "fp32", "--last-token", "160", *SMALL]
    document = run(sys.executable, "xpu.py", *arguments)
    assert document["benchmark"] == "xpu"
    assert document["bar"] == 3.0
    assert document["greedy"]["agrees"], document["greedy"]
    assert document["greedy"]["tokens_compared"] > 16
    assert document["meets_bar"] == all(r["engine_over_transformers"] >= 3 for r in document["results"])


def test_comparison_ends_at_the_first_near_tie_and_sees_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks.torch_worker.duel import compare

    theirs = [
        {"token_ids": [1, 2, 3], "logprobs": [-1.0, -1.0, -1.0], "gaps": [0.5, 0.5, 0.001], "spacings": [0.25] * 3}
    ]
    same = compare([{"token_ids": [1, 2, 9], "logprobs": [-1.0, -1.01, -5.0]}], theirs)
    assert (same["tokens_compared"], same["ended_by_near_tie"], same["agrees"]) == (2, 1, True)
    assert same["largest_logprob_difference"] == 0.01
    other = compare([{"token_ids": [1, 7, 9], "logprobs": [-1.0, -1.0, -5.0]}], theirs)
    assert (other["mismatches"], other["gaps_at_mismatches"], other["agrees"]) == (1, [0.5], False)
    assert other["roundings_at_mismatches"] == [2.0]
    far = compare([{"token_ids": [1, 2, 3], "logprobs": [-1.0, -1.5, -5.0]}], theirs)
    assert not far["agrees"]
