"""`infermesh compare` against a real gRPC server."""

import json
from pathlib import Path

import pytest

from infermesh.inference.v1 import inference_pb2
from infermesh_runtime.compare_prompts import COMPARE_PROMPTS
from libs.client.tests.cli.conftest import RunCommand
from libs.client.tests.conftest import RunningMesh

DEVICES = ("--devices", "cpu,xpu")


def test_devices_that_differ(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.answers = ["ok", "The river runs.", "ok", "The river rests."]
    result = infermesh("compare", "tiny", "Where does it go?", *DEVICES, "--endpoint", mesh.address)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    lines = result.stdout.splitlines()
    assert any(line.split()[:3] == ["xpu", "cpu", "10.0.0.1:7"] and "66.7%" in line for line in lines)
    assert any("first difference at token 3, after 'The river r'" in line for line in lines)
    assert [line.strip() for line in lines[-2:]] == ["cpu: 'uns.'", "xpu: 'ests.'"]
    assert [(r.device, r.stop.max_tokens) for r in mesh.servicer.requests] == [
        ("cpu", 1),
        ("cpu", 128),
        ("xpu", 1),
        ("xpu", 128),
    ]
    assert all(request.sampling.temperature == 0 for request in mesh.servicer.requests)


def test_what_loads_the_model_is_not_what_is_measured(mesh: RunningMesh, infermesh: RunCommand) -> None:
    assert infermesh("compare", "tiny", "Where does it go?", *DEVICES, "--endpoint", mesh.address).exit_code == 0
    asked = [request.chat.messages[-1].content for request in mesh.servicer.requests]
    assert asked[1::2] == ["Where does it go?"] * 2
    assert "Where does it go?" not in asked[0::2]


def test_json_has_every_reply(mesh: RunningMesh, infermesh: RunCommand, tmp_path: Path) -> None:
    mesh.servicer.answers = ["ok", "a b", "a b", "ok", "a b", "a c"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\n\n two \n")
    result = infermesh("compare", "tiny", "--prompts", str(prompts), *DEVICES, "--json", "--endpoint", mesh.address)
    document = json.loads(result.stdout)
    assert document["prompts"] == ["one", "two"]
    cpu, xpu = document["devices"]
    assert (cpu["agreement"], xpu["agreement"]) == (1, 0.75)
    assert [reply["text"] for reply in xpu["replies"]] == ["a b", "a c"]
    assert [reply["first_difference"] is None for reply in xpu["replies"]] == [True, False]


def test_a_base_model_continues_the_prompt(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.available = [inference_pb2.AvailableModel(name="tiny", has_chat_template=False)]
    assert infermesh("compare", "tiny", *DEVICES, "--endpoint", mesh.address).exit_code == 0
    assert {request.text for request in mesh.servicer.requests} >= set(COMPARE_PROMPTS)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--devices", "cpu"), "must name at least two devices"),
        (("--devices", "cpu,gpu"), "there is no gpu; available: cpu"),
        ((*DEVICES, "--prompts", "/nowhere"), "the file of prompts cannot be read"),
        ((*DEVICES, " "), "there is no prompt to ask"),
        ((*DEVICES, "hi", "--prompts", "/nowhere"), "not both"),
    ],
)
def test_what_cannot_be_compared(
    mesh: RunningMesh, infermesh: RunCommand, arguments: tuple[str, ...], problem: str
) -> None:
    result = infermesh("compare", "tiny", *arguments, "--endpoint", mesh.address)
    assert (result.exit_code, problem in result.stderr) == (1, True), result.stderr
