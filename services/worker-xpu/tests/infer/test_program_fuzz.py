"""Programs with random values in random places of their JSON: loaded or refused by name, and nothing else."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_xpu.infer.exported import load_exported
from tests.tensor_models.torch_programs import linear

MEMBERS = ("models/model.json", "data/weights/model_weights_config.json")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[]], "torch.ops.aten.nothing.default", "s77 + 1", float("nan")]),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a program."""
    with zipfile.ZipFile(linear(tmp_path_factory.mktemp("program") / "m.pt2")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of nested mappings and lists."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(member=st.sampled_from(MEMBERS), place=st.integers(0, 10_000), value=VALUES)
def test_any_value_in_any_place_is_refused_by_name_or_loaded(
    parts: dict[str, bytes], tmp_path: Path, member: str, place: int, value: Any
) -> None:
    name = next(name for name in parts if name.endswith(member))
    document = json.loads(parts[name])
    found = list(places(document))
    container, key = found[place % len(found)]
    container[key] = value
    graph = tmp_path / "m.pt2"
    with zipfile.ZipFile(graph, "w") as archive:
        for entry, body in parts.items():
            archive.writestr(entry, json.dumps(document) if entry == name else body)
    refused = ""
    try:
        load_exported(graph, torch.device("cpu"))
    except (InvalidArgument, FailedPrecondition) as error:
        refused = error.message
    assert not refused or "m.pt2" in refused
