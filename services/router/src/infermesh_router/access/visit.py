"""One request of a caller: admits its calls, and counts their tokens against the key's limit."""

from collections.abc import AsyncIterator, Callable

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.access.permissions import permit
from infermesh_router.access.rate_limits import Headers, KeyUsage, RateLimits
from infermesh_router.requests.call import GENERATE, Call
from infermesh_runtime.api_keys import ApiKey
from infermesh_runtime.errors import InfermeshError

Event = tuple[bytes, pb.GenerateResponse]


class Visit:
    """A request that has entered. Prompts reserve their estimated length; `settle` corrects that by what was used."""

    def __init__(
        self,
        *,
        key: ApiKey | None,
        client: str,
        limits: RateLimits,
        usage: KeyUsage | None,
        refused: Callable[[InfermeshError, Headers], InfermeshError],
    ) -> None:
        """`client` names the caller in the fair queue. `refused` is told of each refusal and returns it."""
        self._key = key
        self._client = client
        self._limits = limits
        self._usage = usage
        self._refused = refused
        self._reserved = 0
        self._used = 0

    @property
    def headers(self) -> Headers:
        """Response headers that tell the key's limits and what is left of them."""
        return self._limits.headers(self._usage)

    def begin(self) -> None:
        """Counts the request. Raises ResourceExhausted."""
        if self._usage is not None:
            self._reserve(1, "requests")

    def admit(self, call: Call) -> Call:
        """The call as the caller may make it. Raises PermissionDenied, and ResourceExhausted for its tokens."""
        if self._key is None:
            if not self._client or call.wanted.client:
                return call
            return call.named(self._client) if call.method == GENERATE else call.with_client(self._client)
        try:
            call = permit(self._key, call)
        except InfermeshError as error:
            raise self._refused(error, self.headers) from None
        if self._usage is not None and self._usage.tokens is not None:
            self._reserve(call.wanted.prompt_tokens, "tokens")
            self._reserved += call.wanted.prompt_tokens
        return call.with_client(self._client, member=call.wanted.client)

    def watch(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """The same events, counted if the key has a limit of tokens."""
        return self._count(events) if self._counts_tokens else events

    def count_embedding(self, answer: bytes) -> None:
        """Counts the tokens of a serialised EmbedResponse, or of a ScoreResponse, whose usage is the same field."""
        if self._counts_tokens:
            self._used += _total(pb.EmbedResponse.FromString(answer).usage)

    def count_speech(self, content: pb.TranscribeResponse | pb.SpeakResponse) -> None:
        """Counts the tokens that the end of a stream about sound tells. Speech that was made has none."""
        if self._counts_tokens and isinstance(content, pb.TranscribeResponse):
            self._used += _total(content.finished.usage)

    def settle(self) -> None:
        """Replaces what was reserved by what was used. Call it once, at the end."""
        if self._usage is not None:
            self._limits.correct(self._usage.tokens, self._used - self._reserved)

    @property
    def _counts_tokens(self) -> bool:
        return self._usage is not None and self._usage.tokens is not None

    async def _count(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """Counts as the events come, so that a stream that is cancelled has been paid for; usage has the last word."""
        counted = exact = 0
        async for event in events:
            content = event[1]
            if content.HasField("delta"):
                more = len(content.delta.token_ids)
            elif content.HasField("started"):
                more = content.started.prompt_tokens
            else:
                exact += _total(content.finished.usage)
                more = max(0, exact - counted)
            counted += more
            self._used += more
            yield event

    def _reserve(self, amount: int, what: str) -> None:
        if self._usage is None or self._key is None:
            return
        bucket = self._usage.requests if what == "requests" else self._usage.tokens
        try:
            self._limits.reserve(bucket, amount, key=self._key, what=what)
        except InfermeshError as error:
            raise self._refused(error, self.headers) from None


def _total(usage: pb.Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens
