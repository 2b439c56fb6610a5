"""docs/router.md and docs/api.md are true: each setting, field, filter, reason and metric is in them."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from ruamel.yaml import YAML

from infermesh_router.anthropic.schema import MessagesBody
from infermesh_router.audio.schema import SpeechBody, TranscriptionForm
from infermesh_router.batches.schema import BatchBody
from infermesh_router.config.mesh_config import AliasTargetSection, MeshConfig, ModelSection
from infermesh_router.config.settings import RouterSettings
from infermesh_router.mesh.feed import KEPT_SHARE, MOST_LISTENERS
from infermesh_router.metrics.access_metrics import AccessMetrics
from infermesh_router.metrics.endpoint_collector import EndpointCollector
from infermesh_router.metrics.queue_collector import QueueCollector
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.policy import choice as policy
from infermesh_router.policy.filters import FILTERS
from infermesh_router.policy.scorers import SCORERS
from infermesh_router.responses.schema import ResponseRequest
from infermesh_router.texts.schema import EmbeddingsBody, OllamaEmbedBody, OllamaEmbeddingsBody, RerankBody, ScoreBody
from infermesh_runtime.background.task_metrics import TaskCollector
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.settings import SettingVariable, describe

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "router.md").read_text(encoding="utf-8")
APIS = (DOCS / "api.md").read_text(encoding="utf-8")


def mesh_yaml() -> str:
    found = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found.group(1)


@pytest.mark.parametrize("option", describe(RouterSettings), ids=lambda option: str(option.variable))
def test_settings(option: SettingVariable) -> None:
    default = f"`{option.default}`" if option.default else ""
    assert f"| `{option.variable}` | {default} | {option.help} |" in TEXT


@pytest.mark.parametrize("name", sorted(ChatRequest.model_fields | CompletionRequest.model_fields))
def test_fields_of_a_body(name: str) -> None:
    section = APIS.split("## Fields of a request")[1].split("\n## ")[0]
    assert f"`{name}`" in section


@pytest.mark.parametrize("name", sorted(MessagesBody.model_fields))
def test_fields_of_a_message(name: str) -> None:
    section = APIS.split("## Anthropic's API")[1].split("\n## ")[0]
    assert f"`{name}`" in section


TEXT_FIELDS = {
    name
    for body in (EmbeddingsBody, RerankBody, ScoreBody, OllamaEmbedBody, OllamaEmbeddingsBody)
    for name in body.model_fields
}


@pytest.mark.parametrize("name", sorted(TEXT_FIELDS))
def test_fields_of_texts(name: str) -> None:
    section = APIS.split("## Embeddings and reranking")[1].split("\n## ")[0]
    assert f"`{name}`" in section


@pytest.mark.parametrize(
    "name", sorted({"file"} | TranscriptionForm.model_fields.keys() | SpeechBody.model_fields.keys())
)
def test_fields_of_speech(name: str) -> None:
    section = APIS.split("## Speech")[1].split("\n## ")[0]
    assert f"`{name}`" in section


@pytest.mark.parametrize("name", sorted(ResponseRequest.model_fields))
def test_fields_of_a_response(name: str) -> None:
    section = APIS.split("## Responses")[1].split("\n## ")[0]
    assert f"`{name}`" in section


@pytest.mark.parametrize("name", sorted(BatchBody.model_fields))
def test_fields_of_a_batch(name: str) -> None:
    section = APIS.split("## Files and batches")[1].split("\n## ")[0]
    assert f"`{name}`" in section


def test_how_many_may_listen() -> None:
    kept = MOST_LISTENERS // KEPT_SHARE
    assert f"At most {MOST_LISTENERS} may listen at a time; {kept} of these places are kept" in TEXT


def test_the_filters_are_in_the_order_of_the_code() -> None:
    assert re.findall(r"^\d+\. `([a-z]+)`:", TEXT, re.MULTILINE) == [each.name for each in FILTERS]


def test_reasons() -> None:
    told = {line.split()[0] for line in (policy.__doc__ or "").splitlines() if line.startswith("  ")}
    assert told >= {scorer.name for scorer in SCORERS}
    assert set(re.findall(r"^\| `([a-z_]+)` \|", TEXT.split("## Admission")[0], re.MULTILINE)) == told


def test_the_yaml_is_the_default() -> None:
    assert MeshConfig.model_validate(YAML(typ="safe").load(mesh_yaml())) == MeshConfig()


@pytest.mark.parametrize("section", [AliasTargetSection, MeshConfig, ModelSection])
def test_every_field_of_the_yaml(section: type[BaseModel]) -> None:
    for name in section.model_fields:
        assert re.search(rf"\b{name}:", mesh_yaml()), name


def test_its_examples_are_valid() -> None:
    examples = re.sub(r"^(models|aliases): \{\}.*$", r"\1:", mesh_yaml(), flags=re.MULTILINE).replace("\n#  ", "\n  ")
    config = MeshConfig.model_validate(YAML(typ="safe").load(examples))
    assert config.models["qwen2.5-coder-7b"].pinned
    assert [target.weight for target in config.aliases["chat"]] == [1, 9]


def test_metrics() -> None:
    registry = CollectorRegistry()
    RequestMetrics(registry)
    AccessMetrics(registry)
    registry.register(QueueCollector(lambda: ()))
    registry.register(EndpointCollector(lambda: ()))
    registry.register(TaskCollector(TaskSupervisor()))
    for family in registry.collect():
        assert re.search(rf"^\| `{family.name}(_total)?` ", TEXT, re.MULTILINE), family.name
        assert family.name.startswith(("infermesh:router_", "infermesh:task_")), (
            f"{family.name} may be a worker's: sums would count it twice"
        )
