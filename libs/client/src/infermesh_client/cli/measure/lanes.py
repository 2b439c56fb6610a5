"""Shows what `infermesh compare` found on each device: a table, the first differences, and a dictionary for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import RenderableType
from rich.table import Column
from rich.text import Text

from infermesh_client.bench.agreement import Difference, Reply, agreement, first_difference
from infermesh_client.cli.output.folding import Block, Folding, new_table

_MOST_SHOWN = 40
"""Longest prompt that is shown, in characters."""
Lanes = dict[str, list[Reply]]
"""The replies by device, in the order of the prompts."""


def lanes_table(lanes: Lanes) -> RenderableType:
    """One row a device: agreement with the first one, whole answers that are the same, the first difference, speed."""
    names = ("agreement", "same", "differs at", "tokens/s", "TTFT")
    table = new_table("device", "answered by", *(Column(name, justify="right") for name in names))
    rows = [(Text(device), *_cells(next(iter(lanes.values())), replies)) for device, replies in lanes.items()]
    for row in rows:
        table.add_row(*row)
    labels = ("answered by", *names)
    blocks = [Block(Text(row[0].plain, "bold"), list(zip(labels, row[1:], strict=True))) for row in rows]
    return Folding([table], blocks)


def _cells(first: Sequence[Reply], replies: Sequence[Reply]) -> Sequence[Text]:
    """What the row of a device says after its name."""
    by = ", ".join(sorted({f"{reply.device} {reply.endpoint}".strip() for reply in replies}))
    found = [first_difference(one, other) for one, other in zip(first, replies, strict=True)]
    tokens = [each.token for each in found if each is not None]
    compared = (
        ("-", "-", "-")
        if replies is first
        else (
            f"{agreement(first, replies):.1%}",
            f"{found.count(None)} of {len(replies)}",
            f"token {min(tokens) + 1}" if tokens else "-",
        )
    )
    speed = f"{median(reply.tokens_per_s for reply in replies):.1f}"
    ttft = f"{median(reply.ttft_s for reply in replies) * 1e3:.0f} ms"
    return [Text(cell) for cell in (by, *compared, speed, ttft)]


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
    if not difference.first and not difference.second:
        return line.append("\n    the texts are the same, made of other tokens")
    for name, text in zip(names, (difference.first, difference.second), strict=True):
        line.append(f"\n    {name}: {text!r}" if text else f"\n    {name}: ends")
    return line


def document(model: str, prompts: Sequence[str], lanes: Lanes, failed: Mapping[str, str]) -> dict[str, Any]:
    """All that was found, for JSON. `failed` has the reasons of devices without answers."""
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
        "failed": dict(failed),
    }
