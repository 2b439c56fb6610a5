"""A tiny Gemma 2 whose attention has a soft cap, as worker-cpu runs it."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from tests.gguf_files.recipes import VOCABULARY, Recipe, Weights


@dataclass(frozen=True)
class Made:
    """A recipe, the weights that a file of it has, and the graph made of the file."""

    recipe: Recipe
    weights: Weights
    xml: Path

    def model(self, kv_cache_bytes: int = 1 << 24, **options: object) -> BuiltModel:
        """A model whose tokens are called t0, t1, ...; the caller closes its runner."""
        chosen = OpenVinoOptions(kv_cache_bytes=kv_cache_bytes, threads=2, context_length=512, **options)  # type: ignore[arg-type] # the test knows the fields
        words = models.WordLevel({f"t{token}": token for token in range(VOCABULARY)}, unk_token="t0")
        tokenizer = Tokenizer(words)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return BuiltModel(runner=OpenVinoRunner(self.xml, chosen), tokenizer=tokenizer, eos_token_ids=frozenset())
