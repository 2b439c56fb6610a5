"""An import tries the finished model, and compares its tokens with those of its source."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from gguf import GGUFWriter
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers import provers
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import Proof, read_manifest
from libs.client.tests.model_import import converters as test_converters
from libs.client.tests.verification import tiny_llama

PROMPT = [5, 9, 20]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny Llama with a tokenizer, and the tokens that follow PROMPT beside it."""
    original = GGUFWriter.add_context_length

    def with_tokenizer(writer: GGUFWriter, length: int) -> None:
        original(writer, length)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list([f"t{number}" for number in range(tiny_llama.VOCABULARY)])
        writer.add_token_merges([])
        writer.add_eos_token_id(2)

    monkeypatch.setattr(GGUFWriter, "add_context_length", with_tokenizer)
    path = tiny_llama.write(tmp_path / "m.gguf")
    right = tiny_llama.next_token(path, PROMPT)
    monkeypatch.setenv("TEST_RIGHT_TOKEN", str(right))
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "lines.txt"


def entries_of(**functions: str) -> list[EntryPoint]:
    """Runners, by name, with their functions in test_converters."""
    return [EntryPoint(name, f"{test_converters.__name__}:{call}", provers.GROUP) for name, call in functions.items()]


def run(
    source: Path, root: Path, lines: Path, prover: str, monkeypatch: pytest.MonkeyPatch, *, verify: bool = True
) -> None:
    entries = entries_of(testdevice=prover)
    monkeypatch.setattr(provers, "entry_points", lambda group: entries if group == provers.GROUP else [])
    with lines.open("w") as file:
        view = ProgressView(Console(file=file, width=200))
        import_model(str(source), "m", root, view, ImportOptions(verify=verify))


def test_the_manifest_has_the_proof(
    source: Path, models_root: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, models_root, lines, "answer_well", monkeypatch)
    proof = read_manifest(models_root / "m").proof
    reference = "numpy on the file's dequantised weights"
    assert proof == Proof(
        runner="testdevice",
        worker="testdevice",
        reference=reference,
        matched=2,
        tokens=3,
        template_kept=False,
        end_of_turn="",
        turn_ended=True,
    )
    said = lines.read_text()
    assert f"Verified 2/3 tokens on testdevice against {reference}" in said
    assert "chats do not come back unchanged" in said
    assert "no token at which the model stops" in said


def test_each_installed_runner_is_tried_or_says_why_not(
    source: Path, models_root: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = entries_of(one="answer_well", two="answer_past_its_end", three="answer_not")
    converted = [EntryPoint("four", "unused", provers.GROUP)]
    groups = {provers.GROUP: [*converted, *entries], "infermesh.model_converters": converted}
    monkeypatch.setattr(provers, "entry_points", lambda group: groups[group])
    with lines.open("w") as file:
        import_model(str(source), "m", models_root, ProgressView(Console(file=file, width=200)))
    proofs = read_manifest(models_root / "m").proofs
    told = {proof.worker: (proof.matched, proof.tokens, proof.turn_ended, proof.not_tried) for proof in proofs}
    assert told == {
        "one": (2, 3, True, ""),
        "two": (2, 2, False, ""),
        "three": (0, 0, None, "no such kernel"),
        "four": (0, 0, None, "the model could not be converted for it"),
    }
    said = lines.read_text()
    assert "Warning: on two, an answer went on after '<|end|>'" in said
    assert "Not tried on three: no such kernel" in said


def test_other_tokens_than_the_sources_stop_the_import(
    source: Path, models_root: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FailedPrecondition, match=r"only 0 of its first 2 tokens .* --no-verify") as caught:
        run(source, models_root, lines, "answer_badly", monkeypatch)
    assert caught.value.reason == "MODEL_NOT_VERIFIED"
    assert not (models_root / "m").exists()
    run(source, models_root, lines, "answer_badly", monkeypatch, verify=False)
    assert read_manifest(models_root / "m").proof is None


def test_a_model_that_cannot_answer_stops_the_import(
    source: Path, models_root: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FailedPrecondition, match="cannot answer: no such kernel"):
        run(source, models_root, lines, "answer_not", monkeypatch)
    assert not (models_root / "m").exists()


def test_a_converter_that_cannot_take_a_model_does_not_stop_other_runners(
    source: Path, models_root: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = EntryPoint("other", f"{test_converters.__name__}:cannot_take", convert.GROUP)
    monkeypatch.setattr(convert, "entry_points", lambda group: [converter])
    run(source, models_root, lines, "answer_well", monkeypatch)
    assert "Not converted for other: no such architecture" in lines.read_text()
    assert "imported for testdevice alone" in lines.read_text()
    assert json.loads((models_root / "m" / "infermesh.json").read_text())["not_for"] == ["other"]
    assert not (models_root / "m" / "other").exists()
    monkeypatch.setattr(provers, "entry_points", lambda group: [])
    with pytest.raises(FailedPrecondition, match="no such architecture"):
        import_model(str(source), "n", models_root, ProgressView(Console(quiet=True)))
