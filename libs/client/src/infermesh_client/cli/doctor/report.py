"""Shows what `infermesh doctor` found: a table for each request, a line for each client, or rows of JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from infermesh_client.doctor.diagnosis import Diagnosis, FieldResult, Outcome
from infermesh_client.doctor.recording import Recording

_STYLES = {Outcome.REFUSED: "red", Outcome.IGNORED: "yellow", Outcome.UNTRIED: "dim"}
_PLAIN = (Outcome.WORKS, Outcome.ACCEPTED)


def clients_table(recordings: Iterable[Recording]) -> Table:
    """The clients whose requests are recorded."""
    table = Table("client", "recorded from", "version", Column("requests", justify="right"), box=box.SIMPLE_HEAD)
    for recording in recordings:
        cells = (recording.client, recording.package, recording.version, str(len(recording.requests)))
        table.add_row(*map(Text, cells))
    return table


def request_view(diagnosis: Diagnosis) -> RenderableType:
    """One request: a heading, its fields, and why there was no whole answer; readable in 80 columns."""
    request = diagnosis.request
    heading = Text(f"\n{request.title}: {request.method} {request.path}")
    if not request.by_default:
        heading.append(" (only if its user asks for it)", style="dim")
    parts: list[RenderableType] = [heading]
    if diagnosis.problem:
        parts.append(Text(f"  no answer: {diagnosis.problem}", style="red"))
    table = _fields_table(diagnosis.fields)
    if table.row_count:
        parts.append(table)
    elif not diagnosis.problem:
        parts.append(Text("  works"))
    return Group(*parts)


def summary_line(recording: Recording, found: Sequence[Diagnosis]) -> str:
    """How much of what a client sends works."""
    counts = _counts(found)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    failed = sum(bool(each.problem) for each in found)
    without = f", {failed} without an answer" if failed else ""
    return f"\n{recording.client}: {len(found)} requests{without}; fields: {told or 'none'}"


def check_row(recording: Recording, found: Sequence[Diagnosis]) -> dict[str, Any]:
    """One client as a dictionary."""
    return {
        "client": recording.client,
        "package": recording.package,
        "version": recording.version,
        "fields": _counts(found),
        "requests": [_request_row(each) for each in found],
    }


def _request_row(diagnosis: Diagnosis) -> dict[str, Any]:
    request = diagnosis.request
    return {
        "title": request.title,
        "method": request.method,
        "path": request.path,
        "by_default": request.by_default,
        "status": diagnosis.status or None,
        "problem": diagnosis.problem or None,
        "fields": [
            {"field": each.name, "outcome": each.outcome, "note": each.note or None} for each in diagnosis.fields
        ],
    }


def _counts(found: Iterable[Diagnosis]) -> dict[Outcome, int]:
    outcomes = [field.outcome for each in found for field in each.fields]
    return {outcome: outcomes.count(outcome) for outcome in Outcome}


def _fields_table(fields: Sequence[FieldResult]) -> Table:
    """Every outer field, and those in it that fare otherwise."""
    table = Table(
        Column(overflow="fold", min_width=28),
        Column(no_wrap=True, min_width=8),
        Column(overflow="fold"),
        box=None,
        show_header=False,
        padding=(0, 1, 0, 2),
    )
    outer: dict[str, Outcome] = {}
    for each in fields:
        holder = each.name.partition(".")[0].removesuffix("[]")
        if each.name == holder:
            outer[holder] = each.outcome
        elif each.outcome is outer.get(holder) or (each.outcome in _PLAIN and holder not in outer):
            continue
        table.add_row(Text(each.name), Text(each.outcome, style=_STYLES.get(each.outcome, "")), Text(each.note))
    return table
