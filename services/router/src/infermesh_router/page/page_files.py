"""Serves the files of the web page from memory: their types, packed forms, and how long browsers may keep them."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from infermesh_runtime.compare_prompts import COMPARE_MAX_TOKENS, COMPARE_PROMPTS, LOADING_PROMPT
from infermesh_runtime.errors import NotFound

INDEX = "index.html"
TYPES: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "ico": "image/x-icon",
    "webp": "image/webp",
    "woff2": "font/woff2",
    "wasm": "application/wasm",
    "txt": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
}
"""The content types of files, by the ends of their names. Files of other types are served as bytes."""
_PACKED = frozenset({"html", "js", "mjs", "css", "json", "map", "svg", "txt", "md", "wasm", "webmanifest"})
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Neither scripts nor styles that stand in the page itself run, and nothing is loaded from, or sent to, other hosts."""
_HEADERS = (
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("vary", "accept, accept-encoding"),
)
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_MARK = "v-"
"""What the folder begins with that stands for this version of the files."""
_MADE: Mapping[str, object] = {
    "compare/prompts.json": {
        "prompts": COMPARE_PROMPTS,
        "loading_prompt": LOADING_PROMPT,
        "max_tokens": COMPARE_MAX_TOKENS,
    }
}
"""Files that are made of what other packages have too."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is served."""

    content_type: str
    data: bytes
    packed: bytes
    """The data compressed with gzip; empty if that is not smaller."""
    tag: str
    """Its ETag."""

    def answer(self, *, takes_gzip: bool, forever: bool) -> tuple[bytes, list[tuple[str, str]]]:
        """What to send, and the headers. `forever`: whether this address never gets another content."""
        headers = [*_HEADERS, ("etag", self.tag), ("cache-control", _FOREVER if forever else _ASK_AGAIN)]
        if takes_gzip and self.packed:
            return self.packed, [*headers, ("content-encoding", "gzip")]
        return self.data, headers


class PageFiles:
    """All files. In the page itself, the addresses of its files name this version, so that browsers keep them."""

    def __init__(self, folder: Traversable | None = None) -> None:
        found = _read(folder or files(__package__) / "files", "")
        found |= {path: json.dumps(value).encode() for path, value in _MADE.items()}
        self._version = _MARK + _digest(*(part for path in sorted(found) for part in (path.encode(), found[path])))
        if INDEX in found:
            found[INDEX] = _with_version(found[INDEX], self._version)
        self._files = {path: _make(path, data) for path, data in found.items()}

    def find(self, path: str) -> tuple[PageFile, bool]:
        """The file at a path below /ui/, "" for the page; and whether this address never gets another content.

        Raises NotFound.
        """
        version, _, rest = path.partition("/")
        marked = version.startswith(_MARK)
        name = rest if marked else path
        file = self._files.get(name or INDEX)
        if file is None:
            raise NotFound(f"The page has no file '{path}'.", reason="PATH_NOT_FOUND")
        return file, version == self._version


def _read(folder: Traversable, before: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            found |= _read(entry, f"{before}{entry.name}/")
        else:
            found[before + entry.name] = entry.read_bytes()
    return found


def _with_version(page: bytes, version: str) -> bytes:
    """The page, with addresses such as `ui/main.js` made `ui/VERSION/main.js`."""
    for attribute in (b"src", b"href"):
        page = page.replace(attribute + b'="ui/', attribute + b'="ui/' + version.encode() + b"/")
    return page


def _make(path: str, data: bytes) -> PageFile:
    ending = path.rpartition(".")[2].lower()
    packed = gzip.compress(data, 9, mtime=0) if ending in _PACKED else b""
    content_type = TYPES.get(ending, "application/octet-stream")
    return PageFile(content_type, data, packed if len(packed) < len(data) else b"", f'W/"{_digest(data)}"')


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]
