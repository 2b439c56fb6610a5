"""A Gemma 2 file whose attention has a soft cap is imported and answers through a mesh as numpy does."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from tests.e2e.mesh import CPU, NewMesh
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import VOCABULARY, Weights, write
from tests.gguf_files.reference import log_probabilities

RECIPE = RECIPES["gemma2-capped"]
TOKENS = 12


def imported(folder: Path) -> tuple[Path, Weights]:
    """A models folder with the file in it, and the file's weights."""
    source = folder / "source"
    source.mkdir()
    weights = write(source / "gemma.gguf", RECIPE)
    tokenizer = Tokenizer(models.WordLevel({f"t{token}": token for token in range(VOCABULARY)}, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(source / "tokenizer.json"))
    view = ProgressView(Console(quiet=True))
    import_model(str(source / "gemma.gguf"), "gemma", folder / "models", view, ImportOptions(verify=False))
    return folder / "models", weights


def greedy(weights: Weights, prompt: list[int]) -> list[int]:
    ids = list(prompt)
    for _ in range(TOKENS):
        ids.append(int(log_probabilities(RECIPE, weights, ids)[-1].argmax()))
    return ids[len(prompt) :]


def test_concurrent_requests_get_the_references_tokens(new_mesh: NewMesh, tmp_path: Path) -> None:
    root, weights = imported(tmp_path)
    mesh = new_mesh([(CPU, {"models": root, "model": "gemma", "numerics": "exact", "kv_cache_bytes": "16MiB"})])
    mesh.start()
    mesh.wait_ready()
    rng = np.random.default_rng(2)
    prompts = [[int(token) for token in rng.integers(1, VOCABULARY, length)] for length in (3, 40, 90)]

    def answer(prompt: list[int]) -> list[int]:
        with mesh.openai() as client:
            done = client.completions.create(
                model="gemma", prompt=prompt, max_tokens=TOKENS, temperature=0, extra_body={"ignore_eos": True}
            )
        return [int(word.removeprefix("t")) for word in done.choices[0].text.split()]

    with ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(answer, prompts)) == [greedy(weights, prompt) for prompt in prompts]
    mesh.stop()
