"""`infermesh top` and `infermesh ui`."""

import signal
import webbrowser

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh_client.cli.watch.history import History, sparkline
from infermesh_client.cli.watch.top import TopView
from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.cli.test_folding import WIDTHS, listing, printed
from libs.client.tests.conftest import RunningMesh
from libs.client.tests.doctor.fake_server import fake_server


def history(*rates: float) -> History:
    found = History()
    for rate in rates:
        news = admin_pb2.WatchEndpointsResponse(
            endpoints=listing().endpoints, queues=[admin_pb2.ModelQueue(model="tiny", waiting=3, oldest_ms=1234)]
        )
        for endpoint in news.endpoints:
            endpoint.report.load.decode_tokens_per_s = rate
        found.note(news)
        found.sample()
    return found


def test_sparklines_end_with_the_newest_value() -> None:
    assert sparkline([0, 1, 2, 4], 10) == "▁▃▅█"
    assert sparkline(range(100), 3, most=200) == "▄▄▄"
    assert (sparkline([0, 0], 5), sparkline([], 5)) == ("▁▁", "")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_view_shows_every_endpoint_and_the_last_minutes(width: int) -> None:
    text = printed(TopView(history(0, 5, 10)), width)
    assert "20 tokens/s · 4 running · 2 waiting" in text
    assert text.count("▁▅█") == 2
    assert "50% of 131k" in text
    assert "worker-xpu-0.example.internal:50052: running on the CPU" in text
    assert "waiting: 3 for tiny (oldest 1.2 s)" in text


def test_what_has_gone_is_forgotten_and_what_rests_is_at_zero() -> None:
    found = history(7)
    address = listing().endpoints[0].address
    resting = listing().endpoints[0]
    resting.report.load.running = 0
    found.note(admin_pb2.WatchEndpointsResponse(endpoints=[resting]))
    found.sample()
    assert list(found.series(address).tokens_per_s) == [7, 0]
    assert not found.series("worker-xpu-0.example.internal:50052").tokens_per_s


def test_top_follows_on_a_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("top", "--endpoint", mesh.address)
    terminal.read_until("10.0.0.1:7")
    terminal.read_until("KV cache")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0


def test_top_needs_a_terminal(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("top", "--endpoint", mesh.address)
    assert (result.exit_code, "status --once" in result.stderr) == (1, True)


def test_ui_opens_the_page_and_prints_its_address(infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with fake_server() as server:
        monkeypatch.setenv("INFERMESH_HTTP_PORT", str(server.server_address[1]))
        page = server.url.removesuffix("v1")
        assert infermesh("ui").stdout == f"{page}\n"
        assert infermesh("ui", "--no-browser").stdout == f"{page}\n"
    assert opened == [page]
    result = infermesh("ui")
    assert (result.exit_code, "`infermesh up` starts a mesh" in result.stderr) == (1, True)
