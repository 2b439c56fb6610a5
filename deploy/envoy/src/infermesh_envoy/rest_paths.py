"""The paths of the REST API with their HTTP methods, from the annotations in the .proto files."""

import re
from collections.abc import Iterator
from pathlib import Path

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import FileDescriptorSet

_FIRST, _FIRST_FILE = "infermesh.openai.v1", "infermesh/openai/v1/openai.proto"
_ENDLESS = "/mesh/v1/events"
"""A stream that never ends, so HEAD is not answered for it."""
_VARIABLE = re.compile(r"\{(\w+)(=\*\*)?\}")


def rest_paths(descriptors: Path) -> list[tuple[str, str]]:
    """Each path of the REST API, with the HTTP methods that it accepts."""
    methods: dict[str, list[str]] = {}
    for rule in _rules(descriptors):
        method, path = _pattern(rule)
        methods.setdefault(path, []).extend(["GET", "HEAD"] if method == "GET" and path != _ENDLESS else [method])
    return [(path, ", ".join(names)) for path, names in methods.items()]


def show_paths(descriptors: Path) -> str:
    """The main path of each call, for an error about another path."""
    main = (" ".join(_pattern(rule)) for rule in _main_rules(descriptors))
    return ", ".join(_VARIABLE.sub(lambda found: "NAME" if found[1] == "model" else "ID", path) for path in main)


def path_regex(path: str) -> str:
    """A regular expression that matches what the path template does, with or without a query string."""
    pieces = _VARIABLE.split(path)  # text, then name, "=**" or None, and text again
    regex = re.escape(pieces[0])
    for wildcard, text in zip(pieces[2::3], pieces[3::3], strict=True):
        regex += (".+" if wildcard else "[^/?]+") + re.escape(text)
    return regex + r"(\?.*)?"


def _pattern(rule: HttpRule) -> tuple[str, str]:
    """The HTTP method and the path template of a rule."""
    kind = rule.WhichOneof("pattern") or ""
    return kind.upper(), str(getattr(rule, kind))


def _main_rules(descriptors: Path) -> Iterator[HttpRule]:
    found = FileDescriptorSet.FromString(descriptors.read_bytes())
    # OpenAI's first, which most clients ask for, and its chats before its files
    for file in sorted(found.file, key=lambda file: (file.package != _FIRST, file.package, file.name != _FIRST_FILE)):
        for service in file.service:
            for method in service.method:
                if method.options.HasExtension(annotations_pb2.http):
                    yield method.options.Extensions[annotations_pb2.http]


def _rules(descriptors: Path) -> Iterator[HttpRule]:
    for rule in _main_rules(descriptors):
        yield rule
        yield from rule.additional_bindings
