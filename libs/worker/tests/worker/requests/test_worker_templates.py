"""A chat template that never ends costs its own request, and no other stream."""

import time

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import Code
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing import processes
from infermesh_worker.testing.processes import simulated_worker_process

pytestmark = pytest.mark.alone  # a busy machine is an answer of its own

HANGS_IF_ASKED = (
    "{% if messages[0].content == 'hang' %}{% for a in range(9999) %}{% for b in range(9999) %}"
    "{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
)


def chat(content: str) -> pb.GenerateRequest:
    messages = [pb.ChatMessage(role="user", content=content)]
    return pb.GenerateRequest(chat=pb.ChatPrompt(messages=messages), stop=pb.StopConditions(max_tokens=2))


async def test_template_that_hangs_holds_up_no_other_stream() -> None:
    async with (
        simulated_worker_process(
            sim_itl_s=0.002, sim_chat_template=HANGS_IF_ASKED, chat_template_timeout_s=1, front_timeout_s=5
        ) as worker,
        processes.connected(worker) as stubs,
    ):
        beside = stubs.inference.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=8000)))
        await beside.read()
        hanging = stubs.inference.Generate(chat("hang"), timeout=60)
        longest_s, last_s = 0.0, time.monotonic()
        while not hanging.done():
            assert (await beside.read()) is not grpc.aio.EOF
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
        assert longest_s < 0.8  # the template hangs for a second
        beside.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await hanging.read()
        error = from_rpc_error(caught.value)
        assert error.code is Code.INVALID_ARGUMENT
        assert "the chat template of model 'simulated' takes more than 1 s" in error.message
        assert (await stubs.inference.Generate(chat("fine"), timeout=30).read()).HasField("started")
