"""Paths of the REST API as regular expressions, their methods, and their query strings."""

import re

import pytest

from infermesh_envoy import EnvoyOptions
from infermesh_envoy.rest_paths import path_regex, rest_paths, show_paths


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/v1/models", "/v1/models?x=1", True),
        ("/v1/models", "/v1/models/m", False),
        ("/v1/models/{model=**}", "/v1/models/a/b", True),
        ("/v1/responses/{response_id}", "/v1/responses/resp_1?stream=true", True),
        ("/v1/responses/{response_id}", "/v1/responses/resp_1/input_items", False),
        ("/v1/responses/{response_id}/input_items", "/v1/responses/resp_1/input_items?limit=1", True),
        ("/v1/responses/{response_id}/input_items", "/v1/responses/resp_1", False),
    ],
)
def test_a_template_matches_its_paths(template: str, path: str, matches: bool) -> None:
    assert bool(re.fullmatch(path_regex(template), path)) is matches


def test_every_method_of_a_path_is_listed() -> None:
    methods = dict(rest_paths(EnvoyOptions().descriptors))
    assert methods["/v1/responses/{response_id}"] == "GET, HEAD, DELETE"
    assert methods["/mesh/v1/events"] == "GET"
    assert methods["/v1/responses"] == "POST"


def test_paths_are_shown_without_templates() -> None:
    shown = show_paths(EnvoyOptions().descriptors)
    assert "DELETE /v1/responses/ID," in shown
    assert "GET /v1/models/NAME," in shown
    assert "{" not in shown
