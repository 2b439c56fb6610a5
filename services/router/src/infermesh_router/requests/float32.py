"""Shows the 32-bit numbers of messages without the digits that they do not have."""


def shorten(value: float) -> float:
    """The number as it was written, before it had only 32 bits."""
    return value if isinstance(value, int) else float(f"{value:.7g}")
