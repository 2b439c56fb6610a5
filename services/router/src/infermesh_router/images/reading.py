"""Reads the images of one conversation, in order, whatever dialect it came in."""

from collections.abc import Sequence
from dataclasses import dataclass

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.images.contents import is_data_url, read_data_url
from infermesh_router.images.rules import ImageRules, bad_image

_WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that is named by its URL and has yet to be fetched."""

    path: str
    """Where it is in the client's body."""
    url: str
    message: int
    """Index of its message in the conversation."""
    part: int
    """Index of its part in the message."""


class ImageReader:
    """Reads images. Give it each image of a conversation once, in order."""

    def __init__(self, rules: ImageRules, paths: Sequence[str] | None = None) -> None:
        """`paths`: where each image is in the client's body. None: where OpenAI's bodies have it."""
        self._rules = rules
        self._paths = paths
        self._count = 0
        self.remote: list[RemoteImage] = []
        """Those that have to be fetched; their parts have no data yet."""
        self.names: dict[str, str] = {}
        """Where the contract has each image → where the client's body has it."""

    def read(self, url: str, detail: str | None, *, at: tuple[int, int], path: str) -> pb.Image:
        """The image of a URL. `at`: the indices of its message and part; `path`: where OpenAI's body has it.

        Raises InvalidArgument, which names the image as the client's body does.
        """
        if self._paths is not None:
            path = self._paths[self._count]
        self._count += 1
        if self._count > self._rules.most:
            raise bad_image(path, f"is one image too many: at most {self._rules.most} are allowed in a request")
        message, part = at
        self.names[f"chat.messages[{message}].parts[{part}]"] = path
        image = pb.Image(detail=detail or "")
        if is_data_url(url):
            image.data = read_data_url(url, path, self._rules)
        else:
            self._check_remote(url, path)
            self.remote.append(RemoteImage(path, url, message, part))
        return image

    def _check_remote(self, url: str, path: str) -> None:
        if not url.lower().startswith(_WEB):
            raise bad_image(path, "must be a data: URL, as in data:image/png;base64,..., or begin with https://")
        if not self._rules.urls:
            raise bad_image(
                path,
                "must be a data: URL: this server fetches no images. Operators allow it with INFERMESH_IMAGE_URLS=true",
                reason="IMAGE_URLS_OFF",
            )
