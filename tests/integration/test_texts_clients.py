"""The SDK, the command and examples/rag.py on an embedder, a reranker and a model that chats, through a router."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from infermesh_client import AsyncClient
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.errors import InvalidArgument, ModelNotFound
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker_process
from tests.text_models.folders import HIDDEN

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

COMMAND = "from infermesh_client.cli.app import main; main()"
RAG = Path(__file__).parents[2] / "examples" / "rag.py"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(text_models: Path) -> AsyncIterator[RunningRouter]:
    worker = await WorkerProcess.start(
        "infermesh_worker_cpu", home=text_models.parent, models=text_models, model="embedder", listen="127.0.0.1:0"
    )
    try:
        async with (
            simulated_worker_process(model="words") as chats,
            running_router(await worker.ready(), await chats.ready()) as running,
        ):
            yield running
    finally:
        await worker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(router: RunningRouter) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(router.address, timeout_s=60) as opened:
        yield opened


async def test_vectors(client: AsyncClient) -> None:
    vectors = await client.embed(["the cat", "a dog"], model="embedder")
    assert vectors.shape == (2, HIDDEN)
    assert vectors.dtype == np.float32
    one = await client.embed("a dog", model="embedder", dimensions=4, pooling="cls", normalize=False, truncation="end")
    assert one.shape == (1, 4)
    ids = await client.embed([[2, 4, 3], [2, 3]], model="embedder")
    assert ids.shape == (2, HIDDEN)
    with pytest.raises(InvalidArgument, match="pooling: must be one of mean, cls, last, not 'max'"):
        await client.embed("a", model="embedder", pooling="max")  # type: ignore[arg-type] # the point
    with pytest.raises(ModelNotFound):
        await client.embed("a", model="nobody")


async def test_scores(client: AsyncClient) -> None:
    scores = await client.score("the cat", ["a dog", "cat " * 99], model="reranker", truncation="end")
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()


async def test_the_command_prints_vectors(router: RunningRouter, client: AsyncClient, tmp_path: Path) -> None:
    lines = await run(
        "-c", COMMAND, "embed", "embedder", "the cat", "a dog", "--endpoint", router.address, home=tmp_path
    )
    printed = np.array([json.loads(line) for line in lines])
    assert np.allclose(printed, await client.embed(["the cat", "a dog"], model="embedder"), atol=1e-6)


async def test_a_folder_of_markdown_answers_a_question(router: RunningRouter, tmp_path: Path) -> None:
    for name, text in (("cats", "# Cats\n\nthe cat sat on the mat"), ("sea", "# Sea\n\na ship on the sea")):
        (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
    asked = ("--embedder", "embedder", "--model", "words", "--endpoint", router.address, "--top", "1")
    lines = await run(str(RAG), str(tmp_path), "sea a ship on the sea", *asked, home=tmp_path)
    assert lines[-1] == f"from: {tmp_path / 'sea.md'}"
    assert len(" ".join(lines[:-1]).split()) > 3


async def run(*arguments: str, home: Path) -> list[str]:
    """What a Python program prints, line by line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=-1, stderr=-1, env={"INFERMESH_HOME": str(home), "PATH": ""}
    )
    out, problem = await process.communicate()
    assert process.returncode == 0, problem.decode()
    return out.decode().strip().splitlines()


async def test_nothing_is_lost_with_a_worker_that_is_killed(text_models: Path) -> None:
    settings = {"home": text_models.parent, "models": text_models, "model": "embedder", "listen": "127.0.0.1:0"}
    workers = [await WorkerProcess.start("infermesh_worker_cpu", **settings) for _ in range(2)]
    try:
        addresses = [await worker.ready() for worker in workers]
        async with running_router(*addresses) as router, AsyncClient(router.address, timeout_s=60) as client:
            texts = ["the cat sat on the mat", "a dog ran"] * 100
            wanted = await client.embed(texts, model="embedder")
            calls = [asyncio.ensure_future(client.embed(texts, model="embedder")) for _ in range(30)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            workers[0].process.kill()
            for vectors in await asyncio.gather(*calls):
                assert np.allclose(vectors, wanted, atol=1e-2)
    finally:
        for worker in workers:
            await worker.stop()


async def test_without_a_name_the_only_model_of_the_kind_answers(client: AsyncClient) -> None:
    assert (await client.embed("the cat")).shape == (1, HIDDEN)
    assert (await client.score("the cat", ["a dog"])).shape == (1,)
    assert [event async for event in client.generate("a b c", max_tokens=2)]
