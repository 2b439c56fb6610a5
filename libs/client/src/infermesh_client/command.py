"""Entry point of the command `infermesh`: says what to install where only the SDK is."""

import sys

from infermesh_runtime.importing.command_modules import missing_modules


def main() -> None:
    """Runs the command, or exits with 2 where it is not installed."""
    if missing := missing_modules():
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
