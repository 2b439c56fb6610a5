"""The .proto files lint, and the committed stubs and descriptors match them."""

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

REPOSITORY = Path(__file__).resolve().parents[2]


def test_protos_lint_and_stubs_match() -> None:
    command = [sys.executable, "protos/generate.py", "--check"]
    check = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_descriptor_set_has_every_service_and_its_imports() -> None:
    files = FileDescriptorSet.FromString((REPOSITORY / "protos/infermesh/descriptors.binpb").read_bytes()).file
    names = {file.name for file in files}
    services = {f"{file.package}.{service.name}" for file in files for service in file.service}
    assert services == {
        "infermesh.inference.v1.InferenceService",
        "infermesh.admin.v1.AdminService",
        "infermesh.admin.v1.EndpointService",
        "infermesh.admin.v1.ModelsFolderService",
        "inference.GRPCInferenceService",
        "infermesh.anthropic.v1.AnthropicService",
        "infermesh.kserve.v1.KServeService",
        "infermesh.ollama.v1.OllamaService",
        "infermesh.openai.v1.BatchService",
        "infermesh.mesh.v1.MeshService",
        "infermesh.openai.v1.OpenAIService",
    }
    assert not {dependency for file in files for dependency in file.dependency} - names
