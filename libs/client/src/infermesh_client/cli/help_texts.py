"""Parts of the help texts: the groups that commands are listed in, and examples."""

MESH = "The mesh"
ASK = "Ask models"
MODELS = "Models and access"
MEASURE = "See what happens"


def examples(*lines: str) -> str:
    """What stands below the help of a command; each line fits a terminal of 80 columns."""
    return "\n".join(("Examples:", *lines)).replace("[", "\\[")
