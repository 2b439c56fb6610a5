"""Imports the tiny models as the command does, and lets one kind of worker's runner answer on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_engine.requests.output import Delta, Failed
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.models.trial import Build
from infermesh_worker.rpc.prompts.prompt import tokenize
from infermesh_worker.testing.harness import Harness
from tests.gguf_files.tiny_models import CONTEXT, IDS, MODELS, TOKENS, most_probable, write_model

PRECISION = 1e-2


@dataclass(frozen=True)
class TinyWorker:
    """A kind of worker, and the folder into which the models are imported for it."""

    folder: Path
    build: Build
    options: Mapping[str, Any]
    _imported: dict[str, Path] = field(default_factory=dict)

    def gguf(self, name: str) -> Path:
        """The file of a model, by its name in MODELS."""
        path = self.folder / f"{name}.gguf"
        return path if path.exists() else write_model(path, MODELS[name])

    def imported(self, name: str) -> Path:
        """The model's folder; imported once, without the trial at the end."""
        if name not in self._imported:
            options = ImportOptions(verify=False)
            root = self.folder / "models"
            import_model(str(self.gguf(name)), name, root, ProgressView(Console(quiet=True)), options)
            self._imported[name] = root / name
        return self._imported[name]

    def load(self, name: str) -> BuiltModel:
        """The model as the engine process builds it; the caller closes its runner."""
        return self.build({**self.options, "folder": str(self.imported(name)), "kv_cache_bytes": 16 << 20})

    def next_tokens(self, name: str, ids: tuple[int, ...]) -> list[tuple[int, float]]:
        """What most_probable returns, computed by the worker."""
        model = self.load(name)
        request = GenerationRequest(
            request_id="a",
            prompt_token_ids=ids,
            seed=0,
            sampling=SamplingParams(temperature=0.0),
            stop=StopConditions(max_tokens=1, ignore_eos=True),
            logprobs=4,
        )
        try:
            outputs = Harness(model).run(request)
        finally:
            model.runner.close()
        assert not any(isinstance(output, Failed) for output in outputs)
        (delta,) = (output for output in outputs if isinstance(output, Delta) and output.token_ids)
        (chosen,) = delta.logprobs
        assert chosen.token_id == chosen.top[0].token_id
        return [(each.token_id, each.logprob) for each in chosen.top]

    async def prompt(self, name: str, *messages: pb.ChatMessage) -> tuple[int, ...]:
        """The prompt that the model gets of a chat, as the worker's front renders and tokenises it."""
        opened = OpenedModel.from_folder(ModelFolder.open(self.imported(name)), {})
        request = pb.GenerateRequest(chat=pb.ChatPrompt(messages=messages))
        try:
            return await tokenize(request, opened, vocab_size=len(TOKENS), context_length=CONTEXT)
        finally:
            opened.close()


def convert_here(patch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    """Lets imports convert in this process, by these converters alone: a process for each would take seconds."""

    def run(entry: EntryPoint, folder: Path, _step: object, options: Mapping[str, Any], _log: Path) -> None:
        entry.load()(folder, **options, progress=lambda _stage, _fraction: None)

    patch.setattr(convert, "entry_points", lambda group: entries)
    patch.setattr(convert, "run_apart", run)


def check_tokens(worker: TinyWorker, name: str, ids: tuple[int, ...] = tuple(IDS)) -> None:
    """The most probable tokens after `ids` and their log probabilities are those of the reference."""
    expected = most_probable(worker.gguf(name), ids, MODELS[name])
    found = worker.next_tokens(name, ids)
    assert [token for token, _ in found] == [token for token, _ in expected]
    assert all(abs(ours[1] - theirs[1]) < PRECISION for ours, theirs in zip(found, expected, strict=True))


async def check_chat(worker: TinyWorker, name: str, text: str, *messages: pb.ChatMessage) -> None:
    """The prompt of a chat is this text, and the model answers it as the reference does."""
    ids = await worker.prompt(name, *messages)
    tokenizer = ModelFolder.open(worker.imported(name)).load_tokenizer()
    assert tokenizer.decode(list(ids), skip_special_tokens=False) == text
    check_tokens(worker, name, ids)


def check_refusal(worker: TinyWorker, name: str, words: str) -> None:
    """The import refuses the model in these words, and leaves nothing of it."""
    with pytest.raises(InvalidArgument, match=words):
        worker.imported(name)
    assert not (worker.folder / "models" / name).exists()


def check_load_refused(worker: TinyWorker, name: str, words: str) -> None:
    """The worker refuses to load the model, in these words."""
    with pytest.raises(InvalidArgument, match=words):
        worker.load(name)
