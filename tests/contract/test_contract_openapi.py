"""/openapi.json describes what Envoy serves: the same paths with the same HTTP methods."""

import json

from infermesh_envoy.options import EnvoyOptions
from infermesh_envoy.rest_paths import rest_paths
from infermesh_router.client_plane import DESCRIBED_APIS
from infermesh_router.description.document import openapi_document

UNDESCRIBED = {"HEAD": "It answers as GET does, without the body, on every path that takes GET."}
"""HTTP methods that Envoy takes and the description leaves out, and why.

Envoy also rewrites paths in Azure's form, /openai/deployments/NAME/... and /openai/v1/..., to those that are described.
"""


def test_it_describes_what_envoy_serves() -> None:
    found = rest_paths(EnvoyOptions().descriptors)
    served = {(path.replace("=**}", "}"), verb) for path, verbs in found for verb in verbs.split(", ")}
    paths = json.loads(openapi_document(DESCRIBED_APIS))["paths"]
    described = {(path, verb.upper()) for path, operations in paths.items() for verb in operations}
    assert described == {(path, verb) for path, verb in served if verb not in UNDESCRIBED}
    assert {verb for _, verb in served - described} == UNDESCRIBED.keys()
