"""One load that several callers wait for, with what they want of the model together."""

from dataclasses import dataclass, field

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh_runtime.background.shared_call import SharedCall


@dataclass(slots=True, eq=False)
class SharedLoad:
    """A running load. `join` may be called until its call has ended; the call tells the endpoint what was added."""

    wish: pb.LoadModelRequest
    """What all callers want together: the request to send to the endpoint."""
    call: SharedCall[list[str]] = field(init=False)
    """Does the loading; its result is the models that were unloaded for it."""

    def join(self, request: pb.LoadModelRequest) -> None:
        """Adds a caller's wish: the model is pinned if anyone pins it, and the last keep-alive time applies."""
        self.wish = merged(self.wish, request)


def merged(wish: pb.LoadModelRequest, other: pb.LoadModelRequest) -> pb.LoadModelRequest:
    """Both wishes for one model as one; a keep-alive time in `other` replaces that of `wish`."""
    last = other if other.HasField("keep_alive_s") else wish
    keep_alive_s = last.keep_alive_s if last.HasField("keep_alive_s") else None
    return pb.LoadModelRequest(model=wish.model, pinned=wish.pinned or other.pinned, keep_alive_s=keep_alive_s)
