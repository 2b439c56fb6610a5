"""`infermesh chat`: one answer, piped input, and a conversation on a pseudo-terminal."""

import json
import signal
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from infermesh.inference.v1 import inference_pb2
from infermesh_client.mesh.state import MeshState
from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.conftest import RunningMesh


def test_chat_one_shot(mesh: RunningMesh, infermesh: RunCommand) -> None:
    options = ["--system", "Be brief.", "--temperature", "0", "--top-p", "0.5", "--max-tokens", "9", "--model", "tiny"]
    result = infermesh("chat", "hi", *options, "--endpoint", mesh.address)
    assert (result.exit_code, result.stdout) == (0, "Hello, world!\n")
    for word in ("4 tokens", "TTFT", "tokens/s", "cpu at 10.0.0.1:7"):
        assert word in result.stderr
    (request,) = mesh.servicer.requests
    assert [(m.role, m.content) for m in request.chat.messages] == [("system", "Be brief."), ("user", "hi")]
    assert (request.model, request.stop.max_tokens, request.sampling.temperature) == ("tiny", 9, 0.0)
    assert request.sampling.top_p == 0.5


def test_chat_about_images(mesh: RunningMesh, infermesh: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    shown = ["--image", str(tmp_path / "a.png"), "--endpoint", mesh.address]
    assert infermesh("chat", "what is it?", *shown, "--image", str(tmp_path / "a.png")).stdout == "Hello, world!\n"
    (request,) = mesh.servicer.requests
    first, second, question = request.chat.messages[0].parts
    assert (first.image.data, second.image.data, question.text) == (b"png", b"png", "what is it?")
    missing = infermesh("chat", "what is it?", "--image", str(tmp_path / "none.png"), "--endpoint", mesh.address)
    assert missing.exit_code == 1
    assert "cannot read the image" in missing.stderr


def test_chat_samples_sanely_where_the_model_does_not_say(mesh: RunningMesh, infermesh: RunCommand) -> None:
    infermesh("chat", "hi", "--endpoint", mesh.address)
    infermesh("chat", "hi", "--temperature", "0", "--max-tokens", "0", "--endpoint", mesh.address)
    first, second = mesh.servicer.requests
    assert first.sampling == inference_pb2.SamplingParams(temperature=0.8, top_p=0.95, top_k=40, min_p=0.05)
    assert first.stop.max_tokens == 1024
    assert (second.sampling.temperature, second.sampling.top_k) == (0, 40)
    assert second.stop.max_tokens == 2**32 - 1


def test_chat_leaves_sampling_to_a_model_that_says(mesh: RunningMesh, infermesh: RunCommand) -> None:
    defaults = inference_pb2.GenerationDefaults(sampling=inference_pb2.SamplingParams(temperature=0.2), max_tokens=64)
    mesh.servicer.available = [inference_pb2.AvailableModel(name="tiny", defaults=defaults)]
    infermesh("chat", "hi", "--endpoint", mesh.address)
    (request,) = mesh.servicer.requests
    assert not request.sampling.ListFields()
    assert not request.stop.HasField("max_tokens")


def test_chat_says_that_an_answer_was_cut(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.finish_reason = inference_pb2.FINISH_REASON_LENGTH
    assert "cut off, see --max-tokens" in infermesh("chat", "hi", "--endpoint", mesh.address).stderr


def test_chat_reads_a_pipe(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("chat", "--endpoint", mesh.address, stdin="what\nis this\n")
    assert result.stdout == "Hello, world!\n"
    assert mesh.servicer.requests[0].chat.messages[0].content == "what\nis this"
    assert infermesh("chat", "--endpoint", mesh.address, stdin="  \n").exit_code == 1


def test_chat_refuses_what_is_no_text(mesh: RunningMesh, infermesh: RunCommand) -> None:
    for result in (
        infermesh("chat", "--endpoint", mesh.address, stdin=b"\xff\xd8\0binary"),
        infermesh("chat", "a\udcff", "--endpoint", mesh.address),
    ):
        assert (result.exit_code, result.stderr) == (1, "error: the prompt is not UTF-8 text\n")


def test_chat_error_of_the_endpoint(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("chat", "hi", "--device", "gpu", "--endpoint", mesh.address)
    assert result.exit_code == 1
    assert result.stderr == "error: there is no gpu; available: cpu\n"


def test_chat_on_a_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("first\n")
    assert "Hello, world!" in terminal.read_until("tokens/s")
    terminal.read_until("> ")
    mesh.servicer.endless = True
    terminal.type("second\n")
    terminal.read_until("Hello, world!")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("stopped")
    assert mesh.servicer.cancelled.wait(5)
    terminal.read_until("> ")
    mesh.servicer.endless = False
    terminal.type("third\n")
    terminal.read_until("tokens/s")
    terminal.read_until("> ")
    terminal.type("/clear\n")
    terminal.read_until("> ")
    terminal.type("fourth\n")
    terminal.read_until("tokens/s")
    terminal.read_until("> ")
    terminal.type("\x04")
    assert terminal.wait() == 0
    third, fourth = mesh.servicer.requests[2:]
    assert [m.content for m in third.chat.messages] == ["first", "Hello, world!", "second", "Hello, world!", "third"]
    assert [m.content for m in fourth.chat.messages] == ["fourth"]


def test_chat_goes_on_after_an_error(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("chat", "--device", "gpu", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("first\n")
    terminal.read_until("there is no gpu")
    terminal.read_until("> ")
    terminal.type("/exit\n")
    assert terminal.wait() == 0


def available(name: str, *, chats: bool = True, size_bytes: int = 0) -> inference_pb2.AvailableModel:
    return inference_pb2.AvailableModel(name=name, has_chat_template=chats, size_bytes=size_bytes)


def test_chat_with_nothing_loaded_shows_the_load(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.served, mesh.servicer.available = [], [available("disk"), available("base", chats=False)]
    mesh.servicer.may_answer = threading.Event()
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("Talking to disk")
    terminal.read_until("> ")
    terminal.type("first\n")
    terminal.read_until("Loading disk")
    terminal.read_until("0:00:01")
    mesh.servicer.may_answer.set()
    terminal.read_until("Hello, world!")
    assert [request.model for request in mesh.servicer.requests] == ["disk"]


def test_chat_lets_the_user_choose_among_several_models(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.served, mesh.servicer.available = ["one", "two"], [available("disk")]
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    shown = terminal.read_until("model [1]: ")
    assert [line.strip() for line in shown.splitlines()[:3]] == ["1  one", "2  two", "3  disk  (not loaded yet)"]
    terminal.type("7\n")
    terminal.read_until("a number from 1 to 3")
    terminal.read_until("model [1]: ")
    terminal.type("3\n")
    terminal.read_until("Talking to disk")


def test_chat_off_a_terminal_takes_the_model_of_the_mesh(
    mesh: RunningMesh, infermesh: RunCommand, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.servicer.served = ["one", "two"]
    result = infermesh("chat", "hi", "--endpoint", mesh.address)
    assert result.exit_code == 0
    assert "Asking one, one of 2 models" in result.stderr
    monkeypatch.delenv("INFERMESH_GRPC_PORT")
    state = MeshState(http="", grpc=mesh.address, router="", workers=[], metrics={}, envoy_admin="", model="two")
    (models_root.parent / "run").mkdir(parents=True)
    (models_root.parent / "run" / "mesh.json").write_text(json.dumps(asdict(state)))
    assert infermesh("chat", "hi").exit_code == 0
    assert [request.model for request in mesh.servicer.requests] == ["one", "two"]


def test_chat_says_that_it_loads_off_a_terminal_too(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.served, mesh.servicer.available = [], [available("disk")]
    assert "Loading disk" in infermesh("chat", "hi", "--endpoint", mesh.address).stderr
    mesh.servicer.served = ["disk"]
    assert "Loading" not in infermesh("chat", "hi", "--endpoint", mesh.address).stderr


def test_a_base_model_continues_the_text(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.served, mesh.servicer.available = [], [available("base", chats=False)]
    for named in ((), ("--model", "base")):
        result = infermesh("chat", "The sea in winter", *named, "--endpoint", mesh.address)
        assert (result.exit_code, result.stdout) == (0, "Hello, world!\n")
        assert "4 tokens" in result.stderr
    for request in mesh.servicer.requests:
        assert (request.text, request.model, request.stop.max_tokens) == ("The sea in winter", "base", 1024)
    mesh.servicer.available.append(available("chats"))
    infermesh("chat", "hi", "--endpoint", mesh.address)
    assert mesh.servicer.requests[-1].model == "chats"  # a model that chats is preferred


def test_reasoning_is_not_part_of_what_is_piped_on(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.style = inference_pb2.AnswerStyle(reasoning="think")
    mesh.servicer.words = ("<think>Hm.</think>", "Yes.")
    assert infermesh("chat", "hi", "--endpoint", mesh.address).stdout == "Yes.\n"


def test_commands_of_a_chat(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.available = [available("disk")]
    terminal = open_terminal("chat", "--model", "tiny", "--endpoint", mesh.address)
    for line, said in (
        ("/help", "ask another model"),
        ("/model", "disk  (not loaded yet)"),
        ("/model nothing", "there is no model 'nothing'; there are: tiny, disk"),
        ("/model disk", "Talking to disk"),
        ("/device", "come from: auto"),
        ("/device 10.0.0.1:7", "come from: 10.0.0.1:7"),
        ("/hlep", "there is no command /hlep; /help lists them"),
        ("/etc/hosts is what?", "tokens/s"),
    ):
        terminal.read_until("> ")
        terminal.type(f"{line}\n")
        terminal.read_until(said)
    terminal.read_until("> ")
    terminal.type("/bye\n")
    assert terminal.wait() == 0
    (request,) = mesh.servicer.requests
    assert (request.model, request.device) == ("disk", "10.0.0.1:7")
    assert request.chat.messages[0].content == "/etc/hosts is what?"


def test_answers_are_wrapped_at_words_on_a_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.answers = ["word " * 40]
    terminal = open_terminal("chat", "hi", "--endpoint", mesh.address)
    terminal.read_until("word ")
    first, rest, *_ = terminal.read_until("tokens").splitlines()
    assert (len(first.split()), len(rest.split())) == (23, 16)  # 24 words and their spaces fill 120 columns


def test_pasted_lines_are_one_question(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("\x1b[200~what\nis\nthis?\x1b[201~")
    terminal.type("\n")
    terminal.read_until("tokens/s")
    (request,) = mesh.servicer.requests
    assert request.chat.messages[0].content == "what\nis\nthis?"


def test_what_a_model_writes_does_nothing_to_the_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.answers = ["Red \x1b[31mtext\x1b]0;title\x07, a \x08back\rstep, and\ta tab."]
    terminal = open_terminal("chat", "hi", "--endpoint", mesh.address)
    shown = terminal.read_until("tab.")
    assert "Red ␛[31mtext␛]0;title␇, a ␈back␍step, and\ta tab." in shown


def test_a_pipe_gets_what_the_model_wrote(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.answers = ["\x1b[31mred"]
    assert infermesh("chat", "hi", "--endpoint", mesh.address).stdout == "\x1b[31mred\n"
