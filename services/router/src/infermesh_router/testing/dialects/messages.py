"""Keeps what a stream writes."""

from google.api.httpbody_pb2 import HttpBody


class Written:
    """A `Writer` for tests."""

    def __init__(self) -> None:
        self.messages: list[HttpBody] = []

    async def write(self, message: HttpBody) -> None:
        """Keeps a message."""
        self.messages.append(message)

    @property
    def data(self) -> bytes:
        """The bytes of all messages."""
        return b"".join(message.data for message in self.messages)

    @property
    def text(self) -> str:
        """The same as text."""
        return self.data.decode()
