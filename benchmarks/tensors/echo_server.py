"""A server of bare grpcio that returns the bytes of each request: the least that any way over gRPC takes."""

import asyncio
import sys
from contextlib import AsyncExitStack

import grpc

from benchmarks.tensors.ways import INFER
from infermesh_runtime.rpc.options import SERVER_OPTIONS


async def start_echo(parts: AsyncExitStack) -> str:
    """Starts it in a process of its own, which ends with `parts`; returns its address."""
    command = (sys.executable, "-m", "benchmarks.tensors.echo_server")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    parts.push_async_callback(process.wait)
    parts.callback(process.kill)
    assert process.stdout is not None
    return f"127.0.0.1:{int(await process.stdout.readline())}"


async def serve() -> None:
    """Prints its port, and serves until it is killed."""

    async def echo(request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    _, service, method = INFER.split("/")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
