"""The trial at the end of an import, with the real model."""

from pathlib import Path
from typing import Any

import pytest

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models import trial as trial_module
from infermesh_worker.models.trial import QUESTIONS, try_model


class KeptOpen:
    """A runner that other tests use too."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def close(self) -> None:
        pass


def test_the_default_model_is_tried(default_model: Path, fast_model: BuiltModel) -> None:
    asked: list[Any] = []

    def build(options: Any) -> BuiltModel:
        asked.append(options["folder"])
        runner: Any = KeptOpen(fast_model.runner)
        return BuiltModel(runner=runner, tokenizer=fast_model.tokenizer, eos_token_ids=fast_model.eos_token_ids)

    told: list[float] = []
    trial = try_model(build, default_model, {}, tokens=3, progress=lambda _, done: told.append(done))
    assert asked == [str(default_model)]
    assert [len(output) for output in trial["outputs"]] == [3] * len(QUESTIONS)
    texts = [fast_model.tokenizer.decode(ids, skip_special_tokens=False) for ids in trial["prompts"]]
    assert all(question in text for question, text in zip(QUESTIONS, texts, strict=True))
    assert (trial["template_kept"], trial["end_of_turn"], told[-1]) == (True, "<|im_end|>", 1.0)
    turn = trial["turn"]
    assert (turn["ended"], turn["marker"]) == (True, "")
    assert fast_model.tokenizer.decode(turn["output"], skip_special_tokens=False).endswith("<|im_end|>")


def test_a_model_that_does_not_stop_at_the_end_of_its_turn(
    default_model: Path, fast_model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "TURN_TOKENS", 8)

    def build(_options: Any) -> BuiltModel:
        runner: Any = KeptOpen(fast_model.runner)
        return BuiltModel(runner=runner, tokenizer=fast_model.tokenizer, eos_token_ids=frozenset())

    trial = try_model(build, default_model, {}, tokens=1, progress=lambda *_: None)
    turn = trial["turn"]
    assert (trial["end_of_turn"], turn["ended"], turn["marker"], len(turn["output"])) == ("", False, "<|im_end|>", 8)
