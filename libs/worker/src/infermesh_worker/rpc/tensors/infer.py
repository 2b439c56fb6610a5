"""Answers Infer: checks the tensors, runs them on the model, and writes its outputs."""

import asyncio
import time
from collections.abc import Sequence

from infermesh_runtime.errors import InvalidArgument, ResourceExhausted
from infermesh_runtime.rpc.options import MAX_MESSAGE_BYTES
from infermesh_worker.engine_client.work import Work
from infermesh_worker.engine_process.run_frames import ModelFacts
from infermesh_worker.executors.stacking import OUTPUTS
from infermesh_worker.executors.wire_tensors import Flat
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.rpc.convert import check_device
from infermesh_worker.rpc.tensors.infer_inputs import check_inputs, check_outputs
from infermesh_worker.rpc.tensors.tensor_wire import GivenTensor, read_request, write_response
from infermesh_worker.worker import Worker

MAX_PRIORITY = 100
_MOST_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""Of outputs; the rest of a message is for their names and shapes."""
_THREAD_FROM_BYTES = 1 << 20
"""Tensors of more bytes than this are checked, and answers copied, in a thread."""


async def infer(worker: Worker, body: bytes, remaining_s: float | None) -> bytes:
    """The serialised response to a serialised request. `remaining_s`: time until its deadline; None: it has none."""
    request, tensors = read_request(body)
    with worker.use(request.model, "infer") as hosted:
        check_device(request.device, hosted.client.require_ready())
        if abs(request.priority) > MAX_PRIORITY:
            problem = f"must be from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {request.priority}"
            raise InvalidArgument(f"priority: {problem}", fields={"priority": problem})
        facts = hosted.client.require_facts()
        with worker.models.place(hosted, 1):
            inputs = await _checked(tensors, facts)
            outputs = check_outputs(request.outputs, facts.outputs)
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        work = Work(params={OUTPUTS: outputs}, tensors=inputs, priority=request.priority, deadline_s=deadline_s)
        return await _run(hosted, work)


async def _checked(tensors: Sequence[GivenTensor], facts: ModelFacts) -> list[Flat]:
    if sum(len(tensor.data) for tensor in tensors) < _THREAD_FROM_BYTES:
        return check_inputs(tensors, facts.inputs)
    return await asyncio.to_thread(check_inputs, tensors, facts.inputs)


async def _run(hosted: HostedModel, work: Work) -> bytes:
    async with hosted.client.running(work) as call:
        answer = await call.read()
        outputs = answer.raw
        if check_size(outputs) < _THREAD_FROM_BYTES:
            return write_response(hosted.opened.name, outputs)
        return await asyncio.to_thread(write_response, hosted.opened.name, outputs)


def check_size(outputs: Sequence[Flat]) -> int:
    """The size of the outputs in bytes. Raises ResourceExhausted if they do not fit in a message."""
    size = sum(data.size for _, _, _, data in outputs)
    if size > _MOST_BYTES:
        sizes = ", ".join(f"{name!r} {data.size}" for name, _, _, data in outputs)
        raise ResourceExhausted(
            f"The outputs take {size} bytes ({sizes}), and an answer may have {_MOST_BYTES}. Ask for fewer with "
            "`outputs`, or send fewer rows.",
            reason="TENSORS_TOO_LARGE",
        )
    return size
