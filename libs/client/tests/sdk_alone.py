"""Runs in a process that sees only the modules named in its first argument, as where the SDK alone is installed."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

ALLOWED = frozenset(sys.argv[-1].split(",")) | sys.stdlib_module_names


class OnlyAllowed:
    """Finds what an installation of the SDK has, and nothing else of this environment."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        return PathFinder.find_spec(name, path) if top in ALLOWED or top.startswith("_sysconfigdata") else None


def city(name: str) -> str:
    """A tool."""
    return name


def main() -> None:
    sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [OnlyAllowed]
    import infermesh_client
    from infermesh_client.command import main as command
    from infermesh_client.smart.functions import read_functions

    print([getattr(infermesh_client, name).__name__ for name in ("Client", "AsyncClient", "smart_chat_sync")])
    print(infermesh_client.Client("127.0.0.1:1").endpoint, *read_functions([city]))
    command()


if __name__ == "__main__":
    main()
