"""A server that the contract is checked against: a worker, or a router with a worker behind it."""

from dataclasses import dataclass

import grpc

from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub

MODEL = "contract-model"
CONTEXT_TOKENS = 512


@dataclass(frozen=True)
class Target:
    """One running server and a channel to it. `worker_address` is the worker that does the work."""

    name: str
    channel: grpc.aio.Channel
    worker_address: str

    @property
    def stub(self) -> InferenceServiceStub:
        return InferenceServiceStub(self.channel)
