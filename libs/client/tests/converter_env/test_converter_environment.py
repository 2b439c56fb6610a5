"""The converter environment is made once, tried with tiny wheels in a folder that pip is pointed to."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.converter_env import environment
from infermesh_client.converter_env.environment import find_environment, make_environment
from infermesh_client.model_import import convert, files
from infermesh_client.model_import.fetching import folder as folder_fetching
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import FailedPrecondition, Unavailable
from libs.client.tests.weights import TOKENIZER, safetensors

VERSIONS = {"torch": "1.0", "optimum-intel": "1.0", "nncf": "1.0", "transformers": "1.0"}
CPU_TORCH = "class version:\n    cuda = None\n"


def make_wheel(index: Path, name: str, code: str) -> None:
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages; it has all that is pinned."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in VERSIONS:
        make_wheel(folder, name, CPU_TORCH if name == "torch" else "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(environment, "pinned", lambda: VERSIONS)
    monkeypatch.setattr(environment, "find_spec", lambda _module: None)
    return folder


def test_it_is_made_once(index: Path, tmp_path: Path) -> None:
    home, told = tmp_path / "home", list[float]()
    assert find_environment(home) is None
    made = make_environment(home, told.append)
    assert (told[-1], made.tools) == (1.0, VERSIONS)
    assert told == sorted(told)
    asked = [str(made.python), "-c", "import nncf, torch; print(torch.__file__)"]
    where = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(home / "converter"))
    for wheel in index.iterdir():
        wheel.unlink()
    assert make_environment(home, told.append) == made == find_environment(home)


def test_a_package_that_cannot_be_had_leaves_nothing(index: Path, tmp_path: Path) -> None:
    (index / "nncf-1.0-py3-none-any.whl").unlink()
    with pytest.raises(Unavailable, match=r"cannot be made: .*nncf==1.0.* take the model as a GGUF file") as caught:
        make_environment(tmp_path / "home", lambda _fraction: None)
    assert caught.value.reason == "CONVERTER_NOT_INSTALLED"
    assert "Processing" in (tmp_path / "home" / "log" / "converter.log").read_text()
    assert find_environment(tmp_path / "home") is None
    assert list((tmp_path / "home" / "converter").glob("v-*")) == []


def test_a_torch_with_cuda_is_refused(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "torch", CPU_TORCH.replace("None", "'12.8'"))
    with pytest.raises(Unavailable, match=r"torch 1\.0 that pip found is not a build for CPUs"):
        make_environment(tmp_path / "home", lambda _fraction: None)


def test_a_full_disk_is_noticed_first(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1 << 30))
    with pytest.raises(FailedPrecondition, match="needs 4 GB"):
        make_environment(tmp_path / "home", lambda _fraction: None)


def test_without_it_a_folder_is_refused_before_it_is_copied(
    index: Path, tmp_path: Path, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(*_arguments: object, **_options: object) -> None:
        raise AssertionError("weights were copied before the model was refused")

    monkeypatch.setattr(folder_fetching, "copy_files", copied)
    monkeypatch.setattr(files, "copy_stream", copied)
    monkeypatch.setattr(convert, "entry_points", lambda group: ["openvino"])
    (index / "torch-1.0-py3-none-any.whl").unlink()
    source = tmp_path / "hf"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"max_position_embeddings": 128, "eos_token_id": 7}))
    (source / "tokenizer.json").write_text(TOKENIZER)
    (source / "model.safetensors").write_bytes(safetensors())
    with pytest.raises(Unavailable, match=r"needs an environment of its own, which cannot be made: .*torch==1\.0"):
        import_model(str(source), "m", models_root, ProgressView(Console(quiet=True)), ImportOptions(home=tmp_path))
    assert not (models_root / "m").exists()


def test_the_pins_are_those_of_the_lane_that_tests_the_converter() -> None:
    lock = Path(__file__).parents[4] / "tests" / "huggingface" / "requirements.lock"
    lane = dict(line.split("==", 1) for line in lock.read_text().splitlines() if "==" in line)
    pins = environment.pinned()
    assert pins.keys() >= {*environment.TOLD, "openvino", "optimum"}
    assert pins == {name: lane[name] for name in pins}
