"""Estimates how much memory sounds take on the device while they are worked on, beside the weights.

Samples and features of long sounds are not counted, so that a small machine loads a model that it uses for short ones;
room.py bounds them.
"""

import json
from pathlib import Path

PARALLEL = 4
"""Sounds that are worked on at a time. Their steps take turns, so each is slower, but none waits for a long one."""
_SHARE = 2.0
"""Memory of a sound per byte of the keys and values that the decoder hears its window by: they, and the encoder's
intermediate results."""
_DEFAULT_BYTES = 64 << 20


def sounds_bytes(folder: Path, element_bytes: float) -> int:
    """For as many sounds as are worked on at a time, from the folder's config.json.

    `element_bytes`: size of one number.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        numbers = 2 * int(config["decoder_layers"]) * int(config["max_source_positions"]) * int(config["d_model"])
    except (OSError, ValueError, KeyError, TypeError):
        return PARALLEL * _DEFAULT_BYTES
    return int(PARALLEL * _SHARE * numbers * element_bytes)
