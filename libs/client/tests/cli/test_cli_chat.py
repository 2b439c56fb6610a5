"""`infermesh chat`: one answer, piped input, and a conversation on a pseudo-terminal."""

import signal

from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.conftest import RunningMesh


def test_chat_one_shot(mesh: RunningMesh, infermesh: RunCommand) -> None:
    options = ["--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "--model", "tiny"]
    result = infermesh("chat", "hi", *options, "--endpoint", mesh.address)
    assert (result.exit_code, result.stdout) == (0, "Hello, world!\n")
    for word in ("4 tokens", "TTFT", "tokens/s", "cpu at 10.0.0.1:7"):
        assert word in result.stderr
    (request,) = mesh.servicer.requests
    assert [(m.role, m.content) for m in request.chat.messages] == [("system", "Be brief."), ("user", "hi")]
    assert (request.model, request.stop.max_tokens, request.sampling.temperature) == ("tiny", 9, 0.0)


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
