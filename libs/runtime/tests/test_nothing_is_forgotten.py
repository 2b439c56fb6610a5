"""No source file starts a task, a timer or a thread without an owner: background tasks belong to a TaskSupervisor."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
STARTERS = {"create_task", "ensure_future", "call_later", "call_at", "run_coroutine_threadsafe", "Thread", "Timer"}
SUPERVISED = {"self._tasks.call_later"}
"""The supervisor's own, by the name that it has in every class."""
OWNED = {
    "libs/client/src/infermesh_client/bench/streams.py": "a task group",
    "libs/client/src/infermesh_client/cli/chat/answer.py": "cancels and awaits it",
    "libs/client/src/infermesh_client/cli/models/loading.py": "cancels and awaits it",
    "libs/client/src/infermesh_client/cli/watch/top.py": "cancels and awaits it",
    "libs/client/src/infermesh_client/mesh/ready.py": "awaits both tasks",
    "libs/runtime/src/infermesh_runtime/rpc/server.py": "awaits both tasks of its start",
    "libs/runtime/src/infermesh_runtime/background/tasks.py": "the supervisor itself",
    "libs/worker/src/infermesh_worker/engine_client/executor_calls.py": "awaits it, also when it is cancelled",
    "libs/worker/src/infermesh_worker/engine_process/formats/format_compiler.py": "its thread answers every format",
    "libs/worker/src/infermesh_worker/images/gate.py": "its thread answers every request",
    "libs/worker/src/infermesh_worker/importing/import_process.py": "a timer that ends with its process",
    "libs/worker/src/infermesh_worker/front_watchdog.py": "a timer that fails ends us",
    "libs/worker/src/infermesh_worker/rpc/streams/frame_stream.py": "cancels and awaits its calls",
    "libs/worker/src/infermesh_worker/rpc/texts/sharing.py": "a task group",
    "services/router/src/infermesh_router/batches/runner.py": "a task group",
    "services/router/src/infermesh_router/fleet/drainer.py": "awaits it",
    "services/router/src/infermesh_router/fleet/frames/frame_call.py": "a timer that ends with its call",
    "services/router/src/infermesh_router/fleet/frames/turns.py": "a timer of a millisecond, for those that wait",
    "services/router/src/infermesh_router/images/fetching.py": "a task group, and a task that all await who need TLS",
    "services/router/src/infermesh_router/openai/generations.py": "a task group",
    "services/router/src/infermesh_router/relay/retrying/hedge.py": "awaits both tries",
    "services/router/src/infermesh_router/siblings/merged_streams.py": "cancels and awaits them",
    "services/worker-xpu/src/infermesh_worker_xpu/ranks/crew.py": "its thread ends the process with its ranks",
}
"""Who starts something itself, and what becomes of it."""


def sources() -> Iterator[Path]:
    for folder in ("libs", "services", "deploy"):
        for path in sorted((REPOSITORY / folder).glob("*/src/**/*.py")):
            if "testing" not in path.parts:
                yield path


def starts(path: Path) -> list[str]:
    """The lines that start something."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) not in SUPERVISED:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in STARTERS:
                found.append(f"line {node.lineno}: {called}")
    return found


def test_tasks_timers_and_threads_have_an_owner() -> None:
    homeless = {
        name: lines
        for path in sources()
        if (name := str(path.relative_to(REPOSITORY))) not in OWNED and (lines := starts(path))
    }
    assert homeless == {}, "start them with TaskSupervisor.start, or await them and say so in OWNED"


@pytest.mark.parametrize("name", OWNED)
def test_the_exceptions_are_needed(name: str) -> None:
    assert starts(REPOSITORY / name)
