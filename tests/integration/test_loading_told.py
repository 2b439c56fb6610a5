"""A client that waits while a real worker process loads its model reads how far the load is."""

import re

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh_router.placement import placer
from infermesh_router.testing.router import running_router
from infermesh_worker.testing.processes import simulated_worker

BODY = {"model": "a", "prompt": "hi", "max_tokens": 2, "stream": True}


async def test_a_stream_tells_the_progress_that_the_worker_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placer, "TELL_S", 0.2)
    worker = simulated_worker(model="none", sim_models="a:40", sim_memory_bytes=100, sim_load_s=1.0)
    async with worker as address, running_router(address, wait_comment_s=0.2) as router:
        call = router.openai.CreateCompletion(HttpBody(data=orjson.dumps(BODY)), timeout=60)
        messages = [message.data.decode() async for message in call]
    comments = [message for message in messages if message.startswith(":")]
    told = [re.fullmatch(r": loading a(?: (\d+) %(?:, \d+ s left)?)?\n\n", comment) for comment in comments]
    assert all(told)
    percent = [int(each[1]) for each in told if each and each[1]]
    assert percent == sorted(percent)
    assert percent[0] < percent[-1] < 100
    assert any(comment.endswith("s left\n\n") for comment in comments)
    assert messages[-1].endswith("data: [DONE]\n\n")
