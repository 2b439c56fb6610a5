"""`infermesh chat` as a person uses its terminal: keys at the wrong moment, what is typed ahead, and dumb terminals."""

import shlex
import signal
import threading
from contextlib import closing

from infermesh.inference.v1 import inference_pb2
from libs.client.tests.cli.conftest import COMMAND, OpenTerminal, RunCommand, Terminal
from libs.client.tests.conftest import RunningMesh


def test_ctrl_c_at_the_prompt_discards_the_line_and_the_second_one_ends_the_chat(
    mesh: RunningMesh, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("unwanted")
    terminal.read_until("unwanted")
    terminal.interrupt_prompt()
    terminal.read_until("Ctrl-C again, Ctrl-D or /bye ends the chat.")
    terminal.read_until("> ")
    terminal.type("first\n")
    terminal.read_until("tokens/s")
    terminal.read_until("> ")
    terminal.interrupt_prompt()
    terminal.read_until("Ctrl-C again")
    terminal.read_until("> ")
    terminal.interrupt_prompt()
    assert terminal.wait() == 0
    (request,) = mesh.servicer.requests
    assert [message.content for message in request.chat.messages] == ["first"]


def test_sigterm_ends_the_chat_during_an_answer(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.endless = True
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("first\n")
    terminal.read_until("Hello, world!")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.wait() == 130
    assert mesh.servicer.cancelled.wait(5)


def test_what_is_typed_ahead_shows_at_the_next_prompt_only(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.endless = True
    terminal = open_terminal("chat", "--endpoint", mesh.address)
    terminal.read_until("> ")
    terminal.type("first\n")
    terminal.read_until("Hello, world!")
    terminal.type("/bye")
    terminal.process.send_signal(signal.SIGINT)
    assert "/bye" not in terminal.read_until("stopped")
    terminal.read_until("> ")
    terminal.read_until("/bye")
    terminal.type("\n")
    assert terminal.wait() == 0


def test_a_question_in_the_background_is_answered(mesh: RunningMesh) -> None:
    asking = shlex.join([*COMMAND, "chat", "hi", "--endpoint", mesh.address])
    job = f"set -m; {asking} & wait %1; ended=$?; kill -9 %1 2>/dev/null; exit $ended"
    with closing(Terminal("setsid", "--ctty", "bash", "-c", job)) as terminal:
        assert terminal.wait() == 0, "bash waits until the job ends, or is stopped"
        terminal.read_until("tokens/s")


def test_a_dumb_terminal_gets_no_codes(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.answers = ["<think>Hm.</think>" + "word " * 40]
    mesh.servicer.style = inference_pb2.AnswerStyle(reasoning="think")
    terminal = open_terminal("chat", "hi", "--endpoint", mesh.address, TERM="dumb")
    shown = terminal.read_until("tokens/s")
    assert "word word" in shown
    assert "\x1b" not in shown
    assert "\b" not in shown


def test_an_answer_that_moved_says_where_to(mesh: RunningMesh, infermesh: RunCommand) -> None:
    mesh.servicer.failovers = [inference_pb2.Failover(from_endpoint="10.0.0.1:7", to_endpoint="10.0.0.2:7")]
    assert "cpu at 10.0.0.1:7 (as good as the others) · moved to 10.0.0.2:7" in " ".join(
        infermesh("chat", "hi", "--endpoint", mesh.address).stderr.split()
    )


def test_a_question_shows_how_far_the_load_of_its_model_is(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.state = inference_pb2.ENDPOINT_STATE_LOADING
    mesh.servicer.may_answer, mesh.servicer.load_left_s = threading.Event(), 7.0
    terminal = open_terminal("chat", "hi", "--endpoint", mesh.address)
    terminal.read_until("Loading tiny 50 %, 7 s left")
    mesh.servicer.may_answer.set()
    terminal.read_until("Hello, world!")
    assert terminal.wait() == 0
