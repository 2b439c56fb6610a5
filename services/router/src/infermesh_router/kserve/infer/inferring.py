"""Carries out a request to infer: as a call like any other, with the admission, choice and retries of native Infer."""

from dataclasses import dataclass, replace

from infermesh_router.access.visit import Visit
from infermesh_router.kserve.infer.messages import infer_body, read_answer
from infermesh_router.kserve.infer.parameters import read_carriage, refuse_others
from infermesh_router.kserve.shared_memory.gate import SharedMemory, renamed
from infermesh_router.kserve.tensors.datatypes import check_size
from infermesh_router.kserve.tensors.values import InferAnswer, InferAsk, Input, Output
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.tensors import read_infer
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.options import MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that is ready to be sent."""

    call: Call
    form: InferAsk
    """The request without its elements."""
    timeout_s: float | None
    client: str | None
    """Whose regions of shared memory it uses; None: it uses none."""


class Inferring:
    """Runs requests."""

    def __init__(self, dispatcher: Dispatcher, memory: SharedMemory) -> None:
        self._dispatcher = dispatcher
        self._memory = memory

    async def begin(self, ask: InferAsk, context: RpcContext) -> Begun:
        """Makes the call of a request, which need not be kept then. Raises InfermeshError."""
        carriage = read_carriage(ask.parameters)
        refuse_others(ask.parameters)
        windows = any(each.window for each in ask.inputs) or any(each.window for each in ask.outputs)
        client = self._memory.enter(context) if windows else None
        if client is not None:
            self._check_windows(ask, client)
            context.body.arrived(_elements_bytes(ask))
            ask = await self._fetch(ask, client)
        for each in ask.inputs:
            check_size(each.name, each.dtype, each.shape, len(each.data))
        body = infer_body(ask, carriage.device, carriage.priority)
        context.body.keep(len(body))
        return Begun(read_infer(body), ask.bare(), carriage.timeout_s, client)

    async def finish(self, begun: Begun, context: RpcContext, visit: Visit, since_s: float) -> InferAnswer:
        """Sends the call; the answer. Raises InfermeshError."""
        limits = [time_s for time_s in (context.time_remaining(), begun.timeout_s) if time_s is not None]
        answer = await self._dispatcher.send(visit.admit(begun.call), min(limits, default=None), since_s=since_s)
        read = read_answer(answer, begun.form)
        return read if begun.client is None else await self._put(read, begun.form, begun.client)

    def _check_windows(self, ask: InferAsk, client: str) -> None:
        """Raises InfermeshError for a place in shared memory that does not fit, before anything is read or run."""
        places = [(each.name, each.window) for each in ask.inputs] + [(each.name, each.window) for each in ask.outputs]
        for name, window in places:
            if window is not None:
                with renamed(name):
                    self._memory.regions.check(client, window)
        for each in ask.inputs:
            if each.window is not None:
                check_size(each.name, each.dtype, each.shape, each.window.size_bytes)
        if (size_bytes := _elements_bytes(ask)) > MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"The inputs have {size_bytes} bytes, shared memory included; at most {MAX_MESSAGE_BYTES} are allowed.",
                reason="REQUEST_TOO_LARGE",
            )

    async def _fetch(self, ask: InferAsk, client: str) -> InferAsk:
        """The request with the elements that are in shared memory."""
        return replace(ask, inputs=tuple([await self._fetch_one(each, client) for each in ask.inputs]))

    async def _fetch_one(self, given: Input, client: str) -> Input:
        if given.window is None:
            return given
        with renamed(given.name):
            return replace(given, data=await self._memory.regions.read(client, given.window))

    async def _put(self, answer: InferAnswer, ask: InferAsk, client: str) -> InferAnswer:
        """The answer without the elements that go to shared memory."""
        places = {wanted.name: wanted.window for wanted in ask.outputs if wanted.window is not None}
        outputs = list[Output]()
        for output in answer.outputs:
            place = places.get(output.name)
            if place is not None:
                window = await self._memory.regions.write(client, place, output.data, output.name)
                output = replace(output, data=b"", window=window)  # noqa: PLW2901
            outputs.append(output)
        return replace(answer, outputs=tuple(outputs))


def _elements_bytes(ask: InferAsk) -> int:
    """The size of the inputs' elements, those in shared memory among them."""
    return sum(each.window.size_bytes if each.window else len(each.data) for each in ask.inputs)
