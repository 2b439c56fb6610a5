"""Imports from the Hugging Face Hub, tried against the local stand-in of conftest.py."""

import json
import signal
from pathlib import Path

import pytest

from libs.client.tests.model_import.conftest import COMMIT, CONFIG, IR, SAFETENSORS, Hub, RunImport, StartImport
from libs.client.tests.weights import TOKENIZER, safetensors


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.glob(".import-*")]


def test_takes_only_what_is_needed(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    code, output = run_import("org/model", "--name", "m")
    assert code == 0, output
    folder = models_root / "m"
    assert {path.name for path in folder.iterdir()} == {
        "infermesh.json",
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert (folder / "model.safetensors").read_bytes() == SAFETENSORS["model.safetensors"]
    manifest = json.loads((folder / "infermesh.json").read_text())
    assert (manifest["source"], manifest["format"]) == (f"org/model@{COMMIT}", "safetensors")
    assert not any("README" in request or "onnx" in request for request in hub.requests)


def test_gguf_by_name(hub: Hub, run_import: RunImport, tiny_gguf: Path, models_root: Path) -> None:
    hub.models["org/ggufs"] = {"a.gguf": tiny_gguf.read_bytes(), "b.gguf": b"GGUF"}
    code, output = run_import("org/ggufs", "--name", "m")
    assert code == 1
    assert "a.gguf, b.gguf" in output
    code, output = run_import("org/ggufs:a.gguf", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "model.gguf").read_bytes() == tiny_gguf.read_bytes()


def test_openvino_repository_is_preferred(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    hub.models["org/ir"] = {**SAFETENSORS, "openvino_model.xml": IR.encode(), "openvino_model.bin": b"weights"}
    code, output = run_import("org/ir@main", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "openvino" / "openvino_model.bin").read_bytes() == b"weights"
    assert not (models_root / "m" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("org/missing", "does not exist, or is private"),
        ("org/model@nope", "no revision 'nope'"),
        ("org/model:other.gguf", "has no file 'other.gguf'"),
        ("org/gated", "is gated: accept its terms"),
        ("org/pickled", "pickled weights"),
        ("org/untokenized", "no tokenizer.json"),
    ],
)
def test_refusals_are_one_clear_line(
    source: str, message: str, hub: Hub, run_import: RunImport, models_root: Path
) -> None:
    hub.models["org/gated"] = dict(SAFETENSORS)
    hub.gated.add("org/gated")
    hub.models["org/pickled"] = {"config.json": CONFIG, "tokenizer.json": TOKENIZER.encode(), "pytorch_model.bin": b"x"}
    hub.models["org/untokenized"] = {"config.json": CONFIG, "model.safetensors": b"x"}
    code, output = run_import(source, "--name", "m")
    assert code == 1
    assert message in output
    assert len([line for line in output.splitlines() if line.startswith("error:")]) == 1
    assert leftovers(models_root) == []
    assert not (models_root / "m").exists()


BIG = bytes(2_000_000)
SHARDS = {
    "a.safetensors": safetensors(BIG, name="a"),
    "b.safetensors": safetensors(BIG, name="b"),
    "config.json": CONFIG,
    "tokenizer.json": TOKENIZER.encode(),
}


def index_of(**homes: str) -> dict[str, bytes]:
    return {"model.safetensors.index.json": json.dumps({"weight_map": homes}).encode()}


@pytest.mark.parametrize(
    ("homes", "message"),
    [
        ({"a": "a.safetensors", "c": "c.safetensors"}, "lacks 1 of the 2 files that"),
        ({"a": "a.safetensors", "gone": "b.safetensors"}, "names the tensor gone, which is in none of the files"),
    ],
)
def test_an_index_that_names_what_is_not_there_is_refused_before_the_download(
    homes: dict[str, str], message: str, hub: Hub, run_import: RunImport, models_root: Path
) -> None:
    hub.models["org/model"] = SHARDS | index_of(**homes)
    code, output = run_import("org/model", "--name", "m")
    assert code == 1
    assert message in output
    whole = [request for request in hub.requests if ".safetensors" in request and "bytes=0-" not in request]
    assert not any(request.startswith("GET") and "index" not in request for request in whole)
    assert not (models_root / "m").exists()


def test_shards_of_an_index(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    hub.models["org/model"] = SHARDS | index_of(a="a.safetensors", b="b.safetensors")
    code, output = run_import("org/model", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "b.safetensors").read_bytes() == SHARDS["b.safetensors"]


def test_hub_that_is_not_there(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    hub.url = "http://127.0.0.1:1"
    code, output = run_import("org/model", "--name", "m")
    assert code == 1
    told = " ".join(output.split())
    assert "http://127.0.0.1:1 cannot be reached: Connection refused. Is this machine online?" in told
    assert leftovers(models_root) == []


def test_cut_connection_is_resumed(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    weights = safetensors(bytes(range(256)) * 4096 * 16)  # more than the 10 MB that the Hub's client reads at a time
    hub.models["org/model"]["model.safetensors"] = weights
    hub.cut_after_bytes = [12_000_000]
    code, output = run_import("org/model", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "model.safetensors").read_bytes() == weights
    assert any("bytes=" in request for request in hub.requests)


def test_connection_that_is_cut_again_and_again_fails_cleanly(
    hub: Hub, run_import: RunImport, models_root: Path
) -> None:
    hub.cut_after_bytes = [0] * 50
    code, output = run_import("org/model", "--name", "m")
    assert code == 1
    assert "download" in output
    assert leftovers(models_root) == []


def test_ctrl_c_leaves_nothing(hub: Hub, start_import: StartImport, models_root: Path) -> None:
    hub.stall = True
    process = start_import("org/model", "--name", "m")
    assert hub.stalled.wait(30)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert leftovers(models_root) == []
    assert not (models_root / "m").exists()


def test_killed_import_is_cleaned_up_by_the_next(
    hub: Hub, start_import: StartImport, run_import: RunImport, models_root: Path, tiny_gguf: Path
) -> None:
    hub.stall = True
    process = start_import("org/model", "--name", "m")
    assert hub.stalled.wait(30)
    process.kill()
    process.communicate()
    assert len(leftovers(models_root)) == 1
    assert "m" not in [path.name for path in models_root.iterdir()]
    hub.stall = False
    code, output = run_import("org/model", "--name", "m")
    assert code == 0, output
    assert leftovers(models_root) == []


def test_running_import_is_left_alone_by_others(
    hub: Hub, start_import: StartImport, run_import: RunImport, models_root: Path, tiny_gguf: Path
) -> None:
    hub.stall = True
    process = start_import("org/model", "--name", "m")
    assert hub.stalled.wait(30)
    code, output = run_import(str(tiny_gguf), "--name", "other")
    assert code == 0, output
    assert len(leftovers(models_root)) == 1
    hub.stall = False
    hub.resume.set()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert {path.name for path in models_root.iterdir()} == {".import.lock", "m", "other"}


def test_a_pattern_chooses_among_files(hub: Hub, run_import: RunImport, tiny_gguf: Path, models_root: Path) -> None:
    hub.models["org/ggufs"] = {"m.Q4_K_M.gguf": tiny_gguf.read_bytes(), "m.Q8_0.gguf": b"GGUF"}
    code, output = run_import("hf:org/ggufs@main", "--name", "m", "--include", "*Q4_K_M*")
    assert code == 0, output
    manifest = json.loads((models_root / "m" / "infermesh.json").read_text())
    assert (manifest["source"], manifest["revision"]) == (f"org/ggufs@{COMMIT}", COMMIT)
    assert manifest["licence"] == "apache-2.0"
    code, output = run_import("hf:org/ggufs", "--name", "n", "--include", "*Q5*")
    assert code == 1
    assert "has no file at its top level that matches '*Q5*'" in output


def test_small_files_refuse_a_model_before_its_weights_are_downloaded(
    hub: Hub, run_import: RunImport, models_root: Path
) -> None:
    hub.models["org/model"]["config.json"] = b"{}"
    code, output = run_import("org/model", "--name", "m")
    assert code == 1
    assert f"org/model@{COMMIT}: config.json does not give the context length" in output
    assert not any("model.safetensors" in request for request in hub.requests)


def test_the_next_import_goes_on_where_a_failed_one_ended(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    weights = safetensors(bytes(range(256)) * 4096 * 16)
    hub.models["org/model"]["model.safetensors"] = weights
    hub.cut_after_bytes = [12_000_000, *[0] * 50]
    code, output = run_import("org/model", "--name", "m")
    assert code == 1
    hub.cut_after_bytes = []
    hub.requests.clear()
    code, output = run_import("org/model", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "model.safetensors").read_bytes() == weights
    assert [request for request in hub.requests if "model.safetensors bytes=" in request]
    assert not (models_root / ".downloads").exists()


def test_a_dry_run_downloads_only_the_configuration(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    code, output = run_import("hf:org/model", "--dry-run")
    assert code == 0, output
    assert "files: config.json, tokenizer.json, model.safetensors" in output
    assert {request.rpartition("/")[2] for request in hub.requests if "resolve" in request} == {"config.json"}
    assert not models_root.exists()
