"""Entry point of the command `infermesh`: says what to install where only the SDK is."""

import sys
from importlib.util import find_spec

_NEEDED = ("gguf", "httpx", "huggingface_hub", "pydantic_settings", "rich", "supervisor", "typer")
"""Modules of the extra `command` without which no subcommand starts."""


def main() -> None:
    """Runs the command, or exits with 2 where it is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"error: the command needs {', '.join(missing)}, which the SDK alone does not install; "
            "pip install 'infermesh-client[command]' does",
            file=sys.stderr,
        )
        sys.exit(2)
    from infermesh_client.cli.app import main as run  # noqa: PLC0415 - it imports what may be missing

    run()


if __name__ == "__main__":
    main()
