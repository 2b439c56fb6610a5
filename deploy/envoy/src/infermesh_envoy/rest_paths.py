"""The paths of the REST API with their HTTP methods, from the annotations in the .proto files."""

import re
from collections.abc import Iterator
from pathlib import Path

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def rest_paths(descriptors: Path) -> list[tuple[str, str]]:
    """Each path of the REST API, with the HTTP methods that it accepts."""
    methods: dict[str, list[str]] = {}
    for rule in _rules(descriptors):
        names = methods.setdefault(rule.post or rule.get, [])
        names += ["POST"] if rule.post else ["GET", "HEAD"]
    return [(path, ", ".join(names)) for path, names in methods.items()]


def show_paths(descriptors: Path) -> str:
    """The main path of each call, for an error about another path."""
    main = (f"{'POST' if rule.post else 'GET'} {rule.post or rule.get}" for rule in _main_rules(descriptors))
    return ", ".join(path.replace("{model=**}", "NAME") for path in main)


def path_regex(path: str) -> str:
    """A regular expression that matches what the path template does, with or without a query string."""
    fixed, variable, _ = path.partition("{")
    return re.escape(fixed) + (".+" if variable else r"(\?.*)?")


def _main_rules(descriptors: Path) -> Iterator[HttpRule]:
    found = FileDescriptorSet.FromString(descriptors.read_bytes())
    # OpenAI's first, which most clients ask for
    for file in sorted(found.file, key=lambda file: (file.package != "infermesh.openai.v1", file.package)):
        for service in file.service:
            for method in service.method:
                if method.options.HasExtension(annotations_pb2.http):
                    yield method.options.Extensions[annotations_pb2.http]


def _rules(descriptors: Path) -> Iterator[HttpRule]:
    for rule in _main_rules(descriptors):
        yield rule
        yield from rule.additional_bindings
