"""What unmodified clients try again by themselves: what was refused, after the time they are told; not what ran."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import ScriptedWorker
from infermesh_runtime.errors import FailedPrecondition, Unavailable
from tests.conformance.scripted import Counting, behind_envoy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
RETRY_AFTER_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[ScriptedWorker, str]]:
    """A worker with room for two sequences behind a router in which nobody may wait, and which never tries again."""
    folder = tmp_path_factory.mktemp("envoy")
    config = folder / "mesh.yaml"
    config.write_text("admission: {max_waiting: 0}\n")
    worker = ScriptedWorker(load=pb.Load(max_running=2))
    options = {"mesh_config": str(config), "attempts": 1, "max_failovers": 0, "breaker_failures": 1000}
    async with behind_envoy(worker, folder, **options) as url:
        yield worker, url


@pytest.fixture
def counting(mesh: tuple[ScriptedWorker, str]) -> Counting:
    """The script of the worker."""
    mesh[0].script = counting = Counting()
    return counting


@pytest.fixture
def url(mesh: tuple[ScriptedWorker, str]) -> str:
    return mesh[1]


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client with its own number of retries, two."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", timeout=20) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def claude(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client with its own number of retries, two."""
    async with anthropic.AsyncAnthropic(base_url=url, api_key="x", timeout=20) as opened:
        yield opened


async def ask_both(client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic) -> list[int]:
    """How often each client tried again until it had its answer; it waited as long as it was told."""
    since_s = time.monotonic()
    chat, message = await asyncio.gather(
        client.chat.completions.with_raw_response.create(**ASKED),
        claude.messages.with_raw_response.create(**ASKED),
    )
    took_s = time.monotonic() - since_s
    assert chat.parse().choices[0].message.content == "Hello world"
    assert [block.text for block in (await message.parse()).content if block.type == "text"] == ["Hello world"]
    retries = [chat.retries_taken, message.retries_taken]
    assert took_s >= max(retries) * RETRY_AFTER_S
    return retries


async def shed(http: httpx.AsyncClient) -> int:
    """How many requests found the queue full."""
    wanted = 'infermesh:router_shed_total{reason="QUEUE_FULL"} '
    lines = (await http.get("/metrics")).text.splitlines()
    return int(sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)))


async def test_a_request_that_found_no_room_is_sent_again_when_it_was_told(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, counting: Counting, url: str
) -> None:
    counting.may_go_on.clear()
    held = await client.chat.completions.create(**ASKED, n=2, stream=True)
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        before = await shed(http)
        asking = asyncio.create_task(ask_both(client, claude))
        while await shed(http) < before + 2:  # noqa: ASYNC110 - asking is the only way to know
            await asyncio.sleep(0.01)
    await held.close()
    counting.may_go_on.set()
    assert await asking == [1, 1]
    assert counting.begun == 3


async def test_a_request_that_the_worker_refused_runs_once(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, counting: Counting
) -> None:
    counting.failures = [Unavailable("later", reason="WORKER_LOADING") for _ in range(2)]
    assert await ask_both(client, claude) == [1, 1]
    assert counting.begun == 4


async def test_a_request_that_ran_until_its_deadline_is_not_sent_again(
    client: openai.AsyncOpenAI, counting: Counting
) -> None:
    counting.may_go_on.clear()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(**ASKED, extra_body={"deadline_ms": 300})
    assert (caught.value.status_code, caught.value.response.headers["x-should-retry"]) == (504, "false")
    await counting.idle()
    assert counting.begun == 1


async def test_a_stream_that_fails_in_its_middle_is_not_sent_again(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, counting: Counting
) -> None:
    counting.late_failure = FailedPrecondition("The script ends here.", reason="SCRIPT_ENDS")
    with pytest.raises(openai.APIError, match=r"The script ends here\."):
        async for _ in await client.chat.completions.create(**ASKED, stream=True):
            pass
    async with claude.messages.stream(**ASKED) as message:
        with pytest.raises(anthropic.APIStatusError, match=r"The script ends here\."):
            await message.until_done()
    assert counting.begun == 2


async def test_a_client_that_times_out_frees_its_sequence_before_it_tries_again(
    client: openai.AsyncOpenAI, counting: Counting
) -> None:
    counting.may_go_on.clear()
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.3, max_retries=1).chat.completions.create(**ASKED)
    await counting.idle()
    assert (counting.begun, counting.most) == (2, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_cancels_frees_its_sequence_at_once(
    client: openai.AsyncOpenAI, counting: Counting, stream: bool
) -> None:
    counting.may_go_on.clear()
    if stream:
        answer = await client.chat.completions.create(**ASKED, stream=True)
        assert (await anext(aiter(answer))).choices[0].delta.role == "assistant"
        assert counting.running == 1
        await answer.close()
    else:
        waiting = asyncio.create_task(client.chat.completions.create(**ASKED))
        await counting.runs.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await counting.idle()
    assert counting.begun == 1
