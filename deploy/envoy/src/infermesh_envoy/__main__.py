"""Prints the Envoy configuration for the options on the command line."""

import sys

from infermesh_envoy.arguments import parse
from infermesh_envoy.render import render
from infermesh_envoy.secrets import write_secrets


def main() -> None:
    """Writes the files that name the certificates, and prints the configuration."""
    options = parse(sys.argv[1:], description=__doc__)
    write_secrets(options)
    sys.stdout.write(render(options))


if __name__ == "__main__":
    main()
