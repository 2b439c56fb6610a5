"""Draws the models that are served and those on disk for `infermesh models`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.describe import kind_name, state_name
from infermesh_client.cli.folding import Block, Folding, joined, new_table
from infermesh_client.model_import.staging import disk_bytes
from infermesh_runtime.manifest.model_manifest import Manifest, Proof

_COLUMNS = ("model", "served", "on disk", "kind", "context", "verified", "source")
Row = tuple[str, ...]
"""A model's cells, one for each column; "-" where there is nothing to say."""


def models_view(served: Sequence[inference_pb2.ModelStatus], stored: Sequence[Manifest], root: Path) -> Group:
    """One row a model, and the models folder `root` below."""
    rows = _rows(served, stored, root)
    return Group(Folding([_table(rows)], [_block(row) for row in rows]), Text(str(root), style="dim"))


def _rows(served: Sequence[inference_pb2.ModelStatus], stored: Sequence[Manifest], root: Path) -> list[Row]:
    serving = {model.name: model for model in served}
    manifests = {manifest.name: manifest for manifest in stored}
    return [_row(name, serving.get(name), manifests.get(name), root) for name in sorted(serving.keys() | manifests)]


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


def _block(row: Row) -> Block:
    name, state, size, kind, context, verified, source = ("" if cell == "-" else cell for cell in row)
    lines = [
        ("kind", joined((kind, f"context {context}" if context else ""))),
        ("on disk", size),
        ("verified", verified),
        ("source", source),
    ]
    return Block(Text(joined((name, state), "  ")), lines)


def _verified(manifest: Manifest) -> str:
    """On each runner, how many of the model's first tokens are those of its source."""
    return ", ".join(map(_verified_on, manifest.proofs)) or ("no" if manifest.kind == "generate" else "-")


def _verified_on(proof: Proof) -> str:
    where = proof.worker or proof.runner
    if proof.not_tried:
        return f"not tried on {where}"
    return f"{proof.matched}/{proof.tokens} on {where}" if proof.tokens else f"answers on {where}"
