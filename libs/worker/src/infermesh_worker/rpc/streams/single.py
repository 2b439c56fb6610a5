"""Writes the events of one Generate call."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.rpc.context import RpcContext
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.rpc.prompts.told_prompt import tell_prompt_logprobs
from infermesh_worker.rpc.streams.events import delta_response, finished_response, started_response


async def write_responses(stream: OutputStream, started: pb.Started, context: RpcContext) -> None:
    """Writes serialised responses. `started` is written with the first output, so an earlier failure has no event."""
    deltas, finished = await stream.read()
    if stream.prompt_logprobs is not None:
        tell_prompt_logprobs(started, *stream.prompt_logprobs)
    await context.write(started_response(started))
    while deltas or finished:
        for delta in deltas:
            await context.write(delta_response(delta))
        for end in finished:
            await context.write(finished_response(end))
        deltas, finished = await stream.read()
