"""What a relay tells the writer of a stream about the rest of the answer."""

from typing import Protocol


class Tail(Protocol):
    """A writer that may wait with messages if the rest of the answer has come."""

    def hold(self) -> None:
        """The next event and all after it have come, as far as the endpoint goes that sent them."""

    async def flush(self) -> None:
        """They did not make the answer complete: what waits must go, and nothing may wait until `hold`."""
