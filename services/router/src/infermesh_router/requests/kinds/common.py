"""What the reading of every kind of request shares: parsing, the checks of fields that many have, estimates."""

from collections.abc import Collection, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.call import MAX_PRIORITY
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.wire_fields import fields

RequestT = TypeVar(
    "RequestT",
    pb.GenerateRequest,
    pb.EmbedRequest,
    pb.ScoreRequest,
    pb.InferRequest,
    pb.TranscribeRequest,
    pb.SpeakRequest,
    pb.TokenizeRequest,
    pb.DetokenizeRequest,
)

NO_BOUNDS = Bounds()
CHARACTERS_PER_TOKEN = 4
_DEVICES = frozenset({"auto", "gpu", "cpu", "xpu", "cuda"})


def parse_request(kind: type[RequestT], body: bytes) -> RequestT:
    """The request that a message says. Raises InvalidArgument."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE") from error


def without_fields(body: bytes, left_out: Collection[int], most: int) -> bytes:
    """A serialised message of at most `most` fields without some of them, which are not copied.

    Raises InvalidArgument.
    """
    try:
        return b"".join(whole for number, _, whole, _ in fields(memoryview(body), most) if number not in left_out)
    except (ValueError, IndexError) as error:
        raise InvalidArgument(
            f"The request is not a valid protobuf message: {error}", reason="MALFORMED_MESSAGE"
        ) from error


def check_priority(priority: int) -> None:
    """Raises InvalidArgument for a priority out of range."""
    if abs(priority) > MAX_PRIORITY:
        problem = f"must be from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {priority}"
        raise InvalidArgument(f"priority: {problem}", fields={"priority": problem})


def device_of(name: str) -> str:
    """The device that a request names: a kind in any case, or an endpoint's address as it is."""
    kind = name.lower()
    return kind if kind in _DEVICES else name


def estimate_tokens(texts: Sequence[str]) -> int:
    """About how many tokens texts have."""
    return sum(map(len, texts)) // CHARACTERS_PER_TOKEN


def find_image(chat: pb.ChatPrompt) -> str:
    """Where the first image of a conversation is; "" if it has none."""
    for index, message in enumerate(chat.messages):
        for number, part in enumerate(message.parts):
            if part.HasField("image"):
                return f"chat.messages[{index}].parts[{number}]"
    return ""
