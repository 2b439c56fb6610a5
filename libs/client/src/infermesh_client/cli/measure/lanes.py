"""Shows what `infermesh compare` found on each device: a table, the first differences, and a dictionary for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from infermesh_client.bench.agreement import Difference, Reply, agreement, first_difference
from infermesh_client.cli.folding import new_table

_MOST_SHOWN = 40
"""Longest prompt that is shown, in characters."""
Lanes = dict[str, list[Reply]]
"""The replies by device, in the order of the prompts."""


def lanes_table(lanes: Lanes) -> Table:
    """One row a device: agreement with the first one, whole answers that are the same, speed."""
    right = (Column(name, justify="right") for name in ("agreement", "same", "tokens/s", "TTFT"))
    table = new_table("device", "answered by", *right)
    first = next(iter(lanes.values()))
    for device, replies in lanes.items():
        same = sum(one.token_ids == other.token_ids for one, other in zip(first, replies, strict=True))
        table.add_row(
            Text(device),
            Text(", ".join(sorted({f"{reply.device} {reply.endpoint}".strip() for reply in replies}))),
            "-" if replies is first else f"{agreement(first, replies):.1%}",
            "-" if replies is first else f"{same} of {len(replies)}",
            f"{median(reply.tokens_per_s for reply in replies):.1f}",
            f"{median(reply.ttft_s for reply in replies) * 1e3:.0f} ms",
        )
    return table


def difference_lines(prompts: Sequence[str], lanes: Lanes) -> list[Text]:
    """For each prompt and device, where the answer first differs from the first device's, and how."""
    (reference, first), *others = lanes.items()
    return [
        _difference_line(prompt, (reference, device), difference)
        for device, replies in others
        for prompt, one, other in zip(prompts, first, replies, strict=True)
        if (difference := first_difference(one, other)) is not None
    ]


def _difference_line(prompt: str, names: tuple[str, str], difference: Difference) -> Text:
    shown = prompt if len(prompt) <= _MOST_SHOWN else f"{prompt[:_MOST_SHOWN]}…"
    line = Text.assemble((shown, "bold"), f"\n  first difference at token {difference.token + 1}, after ")
    line.append(repr(difference.before), style="dim")
    for name, text in zip(names, (difference.first, difference.second), strict=True):
        line.append(f"\n    {name}: {text!r}" if text else f"\n    {name}: ends")
    return line


def document(model: str, prompts: Sequence[str], lanes: Lanes) -> dict[str, Any]:
    """All that was found, for JSON."""
    first = next(iter(lanes.values()))
    return {
        "model": model,
        "prompts": list(prompts),
        "devices": [
            {
                "device": device,
                "agreement": agreement(first, replies),
                "tokens_per_s": median(reply.tokens_per_s for reply in replies),
                "ttft_s": median(reply.ttft_s for reply in replies),
                "replies": [
                    {**asdict(other), "first_difference": None if found is None else asdict(found)}
                    for one, other in zip(first, replies, strict=True)
                    for found in [first_difference(one, other)]
                ],
            }
            for device, replies in lanes.items()
        ],
    }
