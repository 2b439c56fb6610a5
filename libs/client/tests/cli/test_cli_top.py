"""`infermesh top` and `infermesh ui`."""

import re
import signal
import stat
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh_client.cli.watch.history import History, samples_a_bar, sparkline
from infermesh_client.cli.watch.top import TopView
from infermesh_client.mesh.manage_key import manage_key_file, own_manage_key, remove_manage_key, write_manage_key
from infermesh_client.mesh.plan import plan_mesh
from infermesh_client.mesh.state import write_state
from infermesh_client.mesh.workers import WorkerSpec
from infermesh_client.settings import ClientSettings, Home
from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.cli.test_folding import WIDTHS, listing, printed
from libs.client.tests.conftest import RunningMesh
from libs.client.tests.doctor.fake_server import fake_server


def history(*rates: float, bar: int = 1) -> History:
    """Each rate for as many samples as `bar`."""
    found = History()
    for rate in rates:
        news = admin_pb2.WatchEndpointsResponse(
            endpoints=listing().endpoints, queues=[admin_pb2.ModelQueue(model="tiny", waiting=3, oldest_ms=1234)]
        )
        for endpoint in news.endpoints:
            endpoint.report.load.decode_tokens_per_s = rate
        found.note(news)
        for _ in range(bar):
            found.sample()
    return found


def test_sparklines_end_with_the_newest_value() -> None:
    assert sparkline([0, 1, 2, 4], 10) == "▁▃▅█"
    assert sparkline(range(100), 3, most=200) == "▄▄▄"
    assert (sparkline([0, 0], 5), sparkline([], 5)) == ("▁▁", "")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_view_shows_every_endpoint_and_the_last_minutes(width: int) -> None:
    text = printed(TopView(history(0, 5, 10, bar=samples_a_bar(width - 26))), width)
    assert "20 tokens/s · 4 running · 2 waiting" in text
    assert text.count("▁▅█") == 2
    assert "50% of 131k" in text
    assert "worker-xpu-0.example.internal:50052: running on the CPU" in text
    assert "waiting: 3 for tiny (oldest 1.2 s)" in text


@pytest.mark.parametrize("width", [10, 54, 94, 300])
def test_a_sparkline_shows_two_minutes_however_wide_it_is(width: int) -> None:
    found = history(10, *[0] * 239)
    series = found.series(listing().endpoints[0].address).tokens_per_s
    bars = found.drawn([*series], width)
    assert len(bars) <= width
    assert bars[0] == "█"
    assert set(bars[1:]) == {"▁"}


def test_a_bar_that_is_whole_stays() -> None:
    found = history(*range(10))
    drawn = []
    for _ in range(8):
        found.sample()
        drawn.append(found.drawn([*found.series(listing().endpoints[0].address).tokens_per_s], 60, most=10))
    assert [bars[:2] for bars in drawn] == [drawn[0][:2]] * 8


def test_the_short_view_has_a_sparkline_for_each_endpoint() -> None:
    text = printed(TopView(history(0, 5, 10, bar=30), short=True), 80)
    lines = [line for line in text.splitlines() if re.search("▁+.?▅+.?█+", line)]
    assert len(lines) == 2
    assert {"READY", "cpu", "2/1", "50%", "10"} <= set(lines[0].split())


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


def test_top_ends_at_q_and_says_what_a_low_terminal_hides(
    mesh: RunningMesh, open_terminal: OpenTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "5")
    terminal = open_terminal("top", "--endpoint", mesh.address)
    terminal.read_until("more lines; `infermesh status --once` prints all")
    terminal.type("xq")
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


def own_mesh() -> Home:
    """The home folder, told that this user's mesh runs at the ports that are set, and its secret."""
    settings = ClientSettings()
    home = Home.of(settings)
    write_manage_key(home)
    write_state(plan_mesh(settings, home, [WorkerSpec("cpu")], "tiny"), home)
    return home


def test_ui_opens_the_page_as_its_owner(infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with fake_server() as server:
        monkeypatch.setenv("INFERMESH_HTTP_PORT", str(server.server_address[1]))
        page, home = server.url.removesuffix("v1"), own_mesh()
        secret = own_manage_key(home)
        shown = infermesh("ui")
        assert (shown.stdout, secret in shown.stderr) == (f"{page}\n", False)
        (url,) = opened
        assert secret not in url  # which other users see in the list of processes
        file = Path(unquote(urlsplit(url).path))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert f'content="0; url={page}#manage={secret}"' in file.read_text()
        printed_only = infermesh("ui", "--no-browser")
        assert printed_only.stdout == f"{page}#manage={secret}\n"
        assert "This address is secret" in printed_only.stderr
        assert len(opened) == 1
    remove_manage_key(home)
    assert not file.exists()


def test_another_mesh_does_not_learn_the_secret(infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    own_mesh()
    with fake_server() as server:
        monkeypatch.setenv("INFERMESH_HTTP_PORT", str(server.server_address[1]))
        assert infermesh("ui", "--no-browser").stdout == f"{server.url.removesuffix('v1')}\n"


def test_each_start_has_a_secret_that_only_this_user_reads(tmp_path: Path) -> None:
    home, found = Home(tmp_path, tmp_path / "models"), set()
    assert own_manage_key(home) == ""
    for _ in range(2):
        write_manage_key(home)
        found.add(own_manage_key(home))
        assert stat.S_IMODE(manage_key_file(home).stat().st_mode) == 0o600
    assert len(found) == 2
    assert all(len(secret) >= 43 for secret in found)
    assert [path.name for path in home.run.iterdir()] == ["manage.key"]
