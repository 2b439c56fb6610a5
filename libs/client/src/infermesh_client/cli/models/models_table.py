"""Draws the models that are served and those on disk for `infermesh models`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.models.memory_table import loading_state, memory_lines, memory_table
from infermesh_client.cli.output.describe import kind_name, state_name
from infermesh_client.cli.output.folding import Block, Folding, joined, new_table
from infermesh_client.model_import.staging import disk_bytes
from infermesh_runtime.manifest.model_manifest import Manifest, Proof

_COLUMNS = ("model", "served", "on disk", "kind", "context", "verified", "source")
Row = tuple[str, ...]
"""A model's cells, one for each column; "-" where there is nothing to say."""


def models_view(
    served: Sequence[inference_pb2.ModelStatus], stored: Sequence[Manifest], root: Path, now: datetime
) -> Group:
    """One row a model, the memory of those that are loaded, and the models folder `root` below.

    `now` has a time zone.
    """
    serving = {model.name: model for model in served}
    manifests = {manifest.name: manifest for manifest in stored}
    names = sorted(serving.keys() | manifests)
    rows = [_row(name, serving.get(name), manifests.get(name), root) for name in names]
    memory = [memory_table(served, now)] if served else []
    blocks = [_block(row, serving.get(name), now) for name, row in zip(names, rows, strict=True)]
    return Group(Folding([_table(rows), *memory], blocks), Text(str(root), style="dim"))


def _row(name: str, status: inference_pb2.ModelStatus | None, manifest: Manifest | None, root: Path) -> Row:
    state = state_name(status.state) if status else "-"
    if manifest is not None:
        size = f"{disk_bytes(root / name) / 1e6:.1f} MB {manifest.format}"
        context = str(manifest.context_length or "-")
        return (name, state, size, manifest.kind, context, _verified(manifest), manifest.source)
    kind, length = (kind_name(status.kind), status.context_length) if status else ("-", 0)
    return (name, state, "-", kind, str(length or "-"), "-", "-")


def _table(rows: Sequence[Row]) -> Table:
    table = new_table(*_COLUMNS)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _block(row: Row, status: inference_pb2.ModelStatus | None, now: datetime) -> Block:
    name, _, size, kind, context, verified, source = ("" if cell == "-" else cell for cell in row)
    lines = [
        ("kind", joined((kind, f"context {context}" if context else ""))),
        ("on disk", size),
        ("verified", verified),
        ("source", source),
        *(memory_lines(status, now) if status else ()),
    ]
    return Block(Text(joined((name, loading_state(status) if status else ""), "  ")), lines)


def _verified(manifest: Manifest) -> str:
    """On each runner, how many of the model's first tokens are those of its source."""
    return ", ".join(map(_verified_on, manifest.proofs)) or ("no" if manifest.kind == "generate" else "-")


def _verified_on(proof: Proof) -> str:
    where = proof.worker or proof.runner
    if proof.not_tried:
        return f"not tried on {where}"
    return f"{proof.matched}/{proof.tokens} on {where}" if proof.tokens else f"answers on {where}"
