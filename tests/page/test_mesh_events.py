"""The mesh's room follows what happens: over breaks of the connection, with its own clock, and for hours."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.e2e.mesh import SIMULATED, Mesh, NewMesh
from tests.page.conftest import opened_page
from tests.page.crowd import crowd
from tests.page.pages import PATIENCE_MS, main_thread_s, wait_true

SILENT_MS = 15_000
MODULE = """import(document.querySelector("script[src*='app.js']").src.replace("app.js", "lib/{}.js"))"""
"""A module of the page, as the page itself has it."""


@pytest.fixture(scope="module")
def mesh(new_mesh: NewMesh) -> Mesh:
    """A mesh of its own: its router is stopped and started again."""
    worker = {"model": "story", "sim_models": "story:1GiB", "sim_itl_s": 0.02}
    made = new_mesh([(SIMULATED, worker)], reconnect_max_s=0.2)
    made.start()
    made.wait_ready()
    return made


@pytest.fixture
def page(browser: Browser, mesh: Mesh) -> Iterator[Page]:
    with opened_page(browser, mesh, PATIENCE_MS) as opened:
        yield opened


def ask(mesh: Mesh) -> None:
    body = {"model": "story", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with mesh.http() as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 200


def open_room(page: Page) -> Locator:
    """Opens the room; its lines of what happened."""
    page.goto("/#/mesh")
    expect(page.locator(".sign")).to_have_text("1 endpoint ready")
    return page.locator(".log li")


def show(page: Page, events: list[tuple[str, dict[str, Any]]], *, path: str = "/#/mesh") -> None:
    """Opens the room with the endpoints that there are, and with these events."""
    lines = [
        f"event: {kind}\nid: a-{number}\ndata: {json.dumps(told)}\n\n" for number, (kind, told) in enumerate(events)
    ]

    def tell(route: Route) -> None:
        route.fulfill(body="".join(lines), content_type="text/event-stream")

    page.route("**/mesh/v1/events", tell)
    page.goto(path)


def test_a_router_that_starts_again_is_followed_and_the_gap_is_told(page: Page, mesh: Mesh) -> None:
    ask(mesh)
    lines = open_room(page)
    expect(lines.first).to_contain_text("Sent to")
    before = lines.count()
    mesh.router.stop()
    expect(page.locator(".sign")).to_have_text("no connection")
    mesh.router.start()
    expect(page.locator(".sign")).to_have_text("1 endpoint ready")
    expect(lines.filter(has_text="is not known: there was no connection")).to_have_count(1)
    ask(mesh)
    expect(lines.first).to_contain_text("Sent to")
    told = lines.all_inner_texts()
    assert len(told) > before + 2
    gap = next(place for place, text in enumerate(told) if "no connection" in text)
    assert "Sent to" in "".join(told[gap:])  # what was shown before is shown still


def test_the_plot_comes_once_its_file_can_be_had(page: Page, mesh: Mesh) -> None:
    ask(mesh)
    page.route("**/uplot.js", lambda route: route.abort())
    with page.expect_event("requestfailed"):
        open_room(page)
    expect(page.locator(".timeline canvas")).to_have_count(0)
    page.unroute("**/uplot.js")
    expect(page.locator(".timeline canvas").first).to_be_visible()


def test_the_gap_is_told_although_the_ids_of_a_new_router_name_the_old_ones(page: Page, mesh: Mesh) -> None:
    """Routers side by side repeat in their ids what the listener's last id named, also those that are gone."""
    state = {"time": time.time(), "endpoint": "h:1", "state": "ready", "before": "", "breaker": "closed", "message": ""}
    data = f"data: {json.dumps(state)}\n\n"
    streams = [
        f"event: state\nid: a-5,b-1\n{data}id: b-1,a-6\n\n",
        f"event: state\nid: a-6,b-2\n{data}",
        f"event: state\nid: a-6,b-2,c-1\n{data}",
    ]
    sent: list[str | None] = []

    def tell(route: Route) -> None:
        sent.append(route.request.headers.get("last-event-id"))
        if len(sent) > len(streams):
            return route.abort()
        return route.fulfill(body=streams[len(sent) - 1], content_type="text/event-stream")

    page.route("**/mesh/v1/events", tell)
    page.goto("/#/mesh")
    lines = page.locator(".log li")
    expect(lines).to_have_count(4)
    expect(lines.nth(1)).to_contain_text("is not known: there was no connection")
    assert sent[:3] == [None, "b-1,a-6", "a-6,b-2"]


def test_a_router_that_hangs_is_noticed_and_nothing_is_repeated(page: Page, mesh: Mesh) -> None:
    """As a connection is, whose other end is gone after the machine has slept: nothing closes it."""
    page.clock.install()
    ask(mesh)
    lines = open_room(page)
    expect(lines.first).to_contain_text("Sent to")
    before = lines.all_inner_texts()
    router = psutil.Process(mesh.router.process.pid)
    router.send_signal(signal.SIGSTOP)
    try:
        page.clock.fast_forward(SILENT_MS + 1000)
        expect(page.locator(".sign")).to_have_text("no connection")
    finally:
        router.send_signal(signal.SIGCONT)
    page.clock.run_for(10_000)
    expect(page.locator(".sign")).to_have_text("1 endpoint ready")
    ask(mesh)
    expect(lines).to_have_count(len(before) + 1)
    assert lines.all_inner_texts()[1:] == before


def test_a_breaker_that_opens_is_told_as_such(page: Page, mesh: Mesh) -> None:
    with mesh.http() as http:
        (endpoint,) = http.get("/mesh/v1/endpoints").json()["endpoints"]
    state = {"time": time.time(), "endpoint": endpoint["address"], "state": "ready", "before": "ready", "message": ""}
    opened = {**state, "breaker": "open", "breaker_before": "closed"}
    closed = {**state, "breaker": "closed", "breaker_before": "half_open"}
    show(page, [("state", opened), ("state", closed), ("lost", {}), ("lost", {"events": 3})])
    told = page.locator(".log p")
    expect(told.nth(0)).to_have_text("3 events came too fast or too long ago to be shown")
    expect(told.nth(1)).to_have_text("Some events, perhaps yours, came too fast or too long ago to be shown")
    expect(told.nth(2)).to_have_text("The circuit breaker of cpu closed again")
    expect(told.nth(3)).to_contain_text("The circuit breaker of cpu opened: it failed lately")


def test_a_drain_while_it_is_busy_is_ended_by_a_resume(page: Page, mesh: Mesh) -> None:
    page.goto(f"/#manage={mesh.manage_key}")
    open_room(page)
    endpoint = page.get_by_label("Endpoint cpu", exact=True)
    body = {"model": "story", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4000, "stream": True}
    with mesh.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()  # it ends the call when it is let go
        next(lines)
        expect(endpoint.locator("dd").first).to_have_text("1")
        page.get_by_label("Drain cpu").click()
        expect(endpoint.locator("header")).to_contain_text("draining")
        page.get_by_label("Resume cpu").press("Enter")
        expect(endpoint.locator("header")).to_contain_text("ready")
        expect(page.locator(".notice")).to_have_text(["cpu takes requests again."])


def test_the_plot_goes_by_the_clock_of_the_mesh(page: Page, mesh: Mesh) -> None:
    """A browser on another machine may be an hour ahead."""
    page.clock.install(time=time.time() + 3600)
    page.goto("/#/mesh")
    expect(page.locator(".timeline canvas")).to_be_visible()
    shown = page.evaluate(f"async () => (await {MODULE.format('mesh_feed')}).now()")
    assert abs(shown - time.time()) < 60


def test_endpoints_that_are_long_gone_take_no_memory(page: Page, mesh: Mesh) -> None:
    page.goto("/")
    kept = page.evaluate(
        """async () => {
          const { newHistory, record } = await IMPORTED;
          const history = newHistory();
          const endpoint = (address) => ({ address, generated_tokens: 0 });
          for (let time = 0; time < 4000; time++) {
            record(history, [endpoint("stays"), endpoint(`pod-${time >> 3}`)], time, false);
          }
          return [history.rates.size, history.rates.get("stays").length, history.told.size];
        }""".replace("IMPORTED", MODULE.format("mesh_history"))
    )
    addresses, points, told = kept
    assert addresses == told < 140
    assert 900 < points < 1022


@pytest.mark.parametrize(("count", "legend"), [(6, 6), (12, 2), (60, 2)])
def test_a_large_mesh_is_readable_and_leaves_the_page_quick(page: Page, mesh: Mesh, count: int, legend: int) -> None:
    """The main thread takes some milliseconds for each snapshot, with a plot of a quarter of an hour."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.add_init_script(crowd(count, every_ms=100, past_s=890))
    page.goto("/#/mesh")
    expect(page.locator(".endpoint")).to_have_count(count)
    expect(page.locator(".legend li")).to_have_count(legend)
    expect(page.locator(".timeline canvas")).to_be_visible()
    page.get_by_role("button", name="15 min").click()
    told, busy_s = page.evaluate("window.told"), main_thread_s(session)
    wait_true(page, f"() => window.told >= {told + 40}")
    assert (main_thread_s(session) - busy_s) / 40 < 0.02
    page.set_viewport_size({"width": 360, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_what_is_shown_follows_the_mesh_although_it_is_drawn_seldom(page: Page, mesh: Mesh) -> None:
    page.add_init_script(crowd(60, every_ms=100))
    page.goto("/#/mesh")
    running = page.locator(".endpoint").first.locator("dd").first
    before = running.inner_text()
    expect(running).not_to_have_text(before)
