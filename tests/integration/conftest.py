"""Fixtures of the tests that run routers with real workers."""

from pathlib import Path

import pytest

from tests.text_models.folders import import_texts, tiny_embedder, tiny_reranker


@pytest.fixture(scope="session")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a tiny "embedder", which has prompts, and a tiny "reranker"."""
    home = tmp_path_factory.mktemp("home")
    embedder = tiny_embedder(home / "e", prompts={"query": "query : ", "passage": "passage : "})
    import_texts(embedder, home / "models", "embedder")
    import_texts(tiny_reranker(home / "r"), home / "models", "reranker")
    return home / "models"
