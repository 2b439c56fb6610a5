"""`infermesh compare` against a real gRPC server."""

import json
import re
import shlex
import signal
from contextlib import closing
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from infermesh.inference.v1 import inference_pb2
from infermesh_client.bench.agreement import Reply
from infermesh_client.cli.measure import answers
from infermesh_client.cli.measure.answers import Answers, marked
from infermesh_client.cli.measure.lanes import difference_lines, lanes_table
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_runtime.compare_prompts import COMPARE_PROMPTS
from libs.client.tests.cli.conftest import COMMAND, OpenTerminal, RunCommand, Terminal
from libs.client.tests.conftest import RunningMesh

DEVICES = ("--devices", "cpu,xpu")


def test_devices_that_differ(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.answers = ["ok", "The river runs.", "ok", "The river rests."]
    result = infermesh("compare", "tiny", "Where does it go?", *DEVICES, "--endpoint", mesh.address)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    lines = result.stdout.splitlines()
    assert any(line.split()[:3] == ["xpu", "cpu", "10.0.0.1:7"] and "66.7%" in line for line in lines)
    assert any("token 3" in line for line in lines if line.startswith(" xpu"))
    assert "xpu: differs from cpu from token 3 on" in lines
    assert [line.strip() for line in lines if "The river" in line] == [
        "The river runs.",
        "The river [-runs.-]{+rests.+}",
    ]
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


def test_json_has_no_question_which_model_to_ask(mesh: RunningMesh, tmp_path: Path) -> None:
    mesh.servicer.available = [inference_pb2.AvailableModel(name=name) for name in ("small", "large")]
    mesh.servicer.state = inference_pb2.ENDPOINT_STATE_LOADING
    out = tmp_path / "out.json"
    asking = shlex.join([*COMMAND, "compare", *DEVICES, "--json", "--endpoint", mesh.address])
    with closing(Terminal("bash", "-c", f"exec {asking} > {out}")) as terminal:
        terminal.read_until("model [1]: ")
        terminal.type("large\n")
        assert terminal.wait() == 0, terminal.seen
    assert json.loads(out.read_text())["model"] == "large"


def test_a_base_model_continues_the_prompt(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.available = [inference_pb2.AvailableModel(name="tiny", has_chat_template=False)]
    assert infermesh("compare", "tiny", *DEVICES, "--endpoint", mesh.address).exit_code == 0
    assert {request.text for request in mesh.servicer.requests} >= set(COMPARE_PROMPTS)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--devices", "cpu"), "must name at least two devices"),
        (("--devices", "gpu,gpu "), "must name at least two devices"),
        ((*DEVICES, "one more", "--model", "tiny"), "name the model once"),
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


def test_each_of_several_prompts_says_where_it_parts(mesh: RunningMesh, infermesh: RunCommand, tmp_path: Path) -> None:
    mesh.servicer.answers = ["ok", "The river runs.", "a", "ok", "The river rests.", "a"]
    (tmp_path / "prompts").write_text("Where?\nWhy?\n")
    arguments = ("tiny", "--prompts", str(tmp_path / "prompts"), *DEVICES, "--endpoint", mesh.address)
    lines = infermesh("compare", *arguments).stdout.splitlines()
    assert lines[0] == "tiny, 2 prompts, at most 128 tokens each"
    assert lines[-4:] == [
        "Where?",
        "  first difference at token 3, after 'The river r'",
        "    cpu: 'uns.'",
        "    xpu: 'ests.'",
    ]


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("Where does it go?",), "Where does it go?"),
        (("tiny",), COMPARE_PROMPTS[0]),
        ((), COMPARE_PROMPTS[0]),
        (("tiny", "Where?"), "Where?"),
        (("Where?", "--model", "tiny"), "Where?"),
    ],
)
def test_a_model_and_a_prompt_and_either_alone(
    mesh: RunningMesh, infermesh: RunCommand, words: tuple[str, ...], question: str
) -> None:
    result = infermesh("compare", *DEVICES, *words, "--endpoint", mesh.address)
    assert result.exit_code == 0, result.output
    assert mesh.servicer.requests[1].chat.messages[-1].content == question
    assert {request.model for request in mesh.servicer.requests} == {"tiny"}
    assert result.stdout.startswith("tiny, ")


def test_a_name_with_spaces_that_the_mesh_has_is_a_model(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.available = [inference_pb2.AvailableModel(name="my model")]
    assert infermesh("compare", "my model", *DEVICES, "--endpoint", mesh.address).exit_code == 0
    assert mesh.servicer.requests[0].model == "my model"


def test_a_device_that_fails_does_not_cost_what_the_others_said(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("compare", "tiny", "Why?", "--devices", "cpu,gpu,xpu", "--endpoint", mesh.address)
    assert result.exit_code == 1
    assert "error: gpu: there is no gpu; available: cpu" in result.stderr
    assert "xpu: the same as cpu, to the last token" in result.stdout
    document = json.loads(
        infermesh("compare", "tiny", "--devices", "gpu,cpu", "--json", "--endpoint", mesh.address).stdout
    )
    assert [each["device"] for each in document["devices"]] == ["cpu"]
    assert document["failed"] == {"gpu": "there is no gpu; available: cpu"}
    alone = infermesh("compare", "tiny", "Why?", "--devices", "gpu,cpu", "--endpoint", mesh.address)
    assert [line.strip() for line in alone.stdout.splitlines()][-3:] == ["cpu", "Hello, world!", ""]


def test_devices_that_all_fail(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.silent_device = "never"
    result = infermesh("compare", "tiny", "--devices", "gpu, gpu ,cuda", "--endpoint", "127.0.0.1:1")
    assert (result.exit_code, "nothing answers at 127.0.0.1:1" in result.stderr, result.stdout) == (1, True, "")


def test_ctrl_c_shows_the_devices_that_have_answered(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.silent_device = "xpu"
    terminal = open_terminal("compare", "tiny", "Why is it?", "--devices", "cpu,xpu", "--endpoint", mesh.address)
    terminal.read_until("asking tiny on xpu")
    terminal.process.send_signal(signal.SIGINT)
    seen = terminal.read_until("interrupted")
    assert re.search(r"cpu +cpu 10.0.0.1:7", seen)
    assert terminal.wait() == 130


def reply(text: str, *token_ids: int, endpoint: str = "10.0.0.1:7") -> Reply:
    return Reply(text=text, token_ids=token_ids, ttft_s=0.1, tokens_per_s=9, device="cpu", endpoint=endpoint)


def test_long_addresses_do_not_break_the_table() -> None:
    endpoint = "worker-cpu-0.worker-cpu.infermesh.svc.cluster.local:50051"
    console = SafeConsole()
    console.width = 80
    with console.capture() as captured:
        console.print(lanes_table({"cpu": [reply("a", 1, endpoint=endpoint)], "gpu": [reply("b", 2)]}))
    lines = captured.get().splitlines()
    assert any(line.split() == ["answered", "by", "cpu", endpoint] for line in lines)
    assert any(line.split() == ["differs", "at", "token", "1"] for line in lines)


def test_one_text_of_other_tokens_is_no_text_that_ends() -> None:
    (line,) = difference_lines(["Why?"], {"cpu": [reply("one", 1, 2)], "gpu": [reply("one", 3)]})
    assert "the texts are the same, made of other tokens" in line.plain
    assert "ends" not in line.plain


def test_answers_of_one_text_and_other_tokens_mark_nothing_and_say_so() -> None:
    console = SafeConsole()
    with console.capture() as captured:
        console.print(Answers({"cpu": [reply("one", 1, 2)], "gpu": [reply("one", 3)]}))
    shown = captured.get()
    assert "gpu: the texts are the same, made of other tokens" in shown
    assert "differs" not in shown


def test_blanks_are_not_matched_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each blank was compared with all the others, so 400 words took seconds."""
    compared: list[tuple[int, int]] = []

    def matcher(junk: None, old: list[str], new: list[str], **options: bool) -> SequenceMatcher[str]:
        compared.append((len(old), len(new)))
        return SequenceMatcher(junk, old, new, **options)

    monkeypatch.setattr(answers, "SequenceMatcher", matcher)
    first, second = (" ".join(f"{name}{i}" for i in range(400)) for name in "ab")
    assert marked(first, second, coloured=False).plain == f"[-{first}-]{{+{second}+}}"
    assert compared == [(400, 400)]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("a b c", "a x c", "a [-b -]{+x +}c"),
        ("a b c", "a c", "a [-b -]c"),
        ("a", "a b", "a{+ b+}"),
        ("a b", "a", "a[- b-]"),
        ("a\nb", "a b", "a[-\n-]{+ +}b"),
        ("a bc d", "a bd d", "a [-bc -]{+bd +}d"),
        ("ab", "abc", "[-ab-]{+abc+}"),
        ("", "b", "{+b+}"),
        ("same", "same", "same"),
        ("a " + "b " * 3000, "a " + "c " * 3000, "a {+" + "c " * 3000 + "+}"),
    ],
)
def test_words_that_differ_are_marked(first: str, second: str, shown: str) -> None:
    assert marked(first, second, coloured=False).plain == shown
    coloured = marked(first, second, coloured=True)
    assert not any(sign in coloured.plain for sign in ("{+", "[-"))
    assert bool(coloured.spans) == (first != second)
