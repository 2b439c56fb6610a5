"""Shows receipts of requests: one in lines, several in a table."""

from collections.abc import Sequence

from rich.table import Column
from rich.text import Text

from infermesh_client.cli.output.folding import Block, Folding, joined, new_table
from infermesh_client.cli.output.reasons import reason_in_words
from infermesh_client.cli.watch.receipt import Receipt

_OK = "OK"
_LONG_MS = 10_000


def receipt_block(receipt: Receipt) -> Block:
    """All that is known of a request; lines that would say nothing are left out."""
    lines = [
        ("asked", joined((receipt.call, f"at {receipt.arrived_at}" if receipt.arrived_at else ""), " ")),
        ("model", joined((receipt.model, f"by its alias {receipt.alias}" if receipt.alias else ""), ", ")),
        ("sent to", _chosen(receipt)),
        (
            "runners-up",
            "\n".join(
                f"{each.endpoint}{_expected(each.seconds, each.score) or ' (not measured)'}"
                for each in receipt.runners_up
            ),
        ),
        ("failed first", "\n".join(f"{each.endpoint}: {each.reason}" for each in receipt.retries)),
        ("moved", _moves(receipt)),
        ("times", _times(receipt)),
        ("tokens", _tokens(receipt)),
        ("sampling", ", ".join(f"{each.name} {each.value:g} ({each.source})" for each in receipt.sampling)),
        ("seed", str(receipt.seed) if receipt.sampling else ""),
        ("ignored", ", ".join(receipt.ignored_fields)),
        ("ended", joined((", ".join(receipt.finish_reasons), receipt.error))),
    ]
    style = "green" if receipt.status == _OK else "red"
    return Block(Text.assemble((receipt.request_id, "bold"), "  ", (receipt.status, style)), lines)


def receipts_view(receipts: Sequence[Receipt]) -> Folding:
    """One row a request."""
    right = [Column(name, justify="right") for name in ("first token", "total", "tokens")]
    table = new_table("request", "status", "model", "endpoint", "reason", *right)
    for each in receipts:
        times = (_time(each.first_token_ms) if each.first_token_ms else "-", _time(each.total_ms))
        named = (each.request_id, each.status, each.model, f"{each.device} {each.endpoint}".strip(), each.reason)
        table.add_row(*map(Text, (*named, *times, str(each.completion_tokens))))
    return Folding([table], [_short_block(each) for each in receipts])


def _short_block(receipt: Receipt) -> Block:
    lines = [
        ("asked", receipt.arrived_at),
        ("model", receipt.model),
        ("sent to", _chosen(receipt)),
        ("moved", _moves(receipt)),
        ("times", _times(receipt)),
    ]
    return Block(Text(f"{receipt.request_id}  {receipt.status}"), lines)


def _chosen(receipt: Receipt) -> str:
    if not receipt.endpoint:
        return ""
    why = f": {reason_in_words(receipt.reason)}" if receipt.reason else ""
    return f"{receipt.device} at {receipt.endpoint}{why}{_expected(receipt.seconds, receipt.score)}"


def _expected(seconds: float, score: float) -> str:
    """When an endpoint was expected to be done, and its score, which is 0 if it was the only one."""
    parts = (f"done in {seconds:.1f} s" if seconds else "", f"score {score:.2f}" if score else "")
    return f" ({joined(parts, ', ')})" if any(parts) else ""


def _moves(receipt: Receipt) -> str:
    return "\n".join(
        f"from {each.from_endpoint} to {each.to_endpoint} after {each.after_tokens} tokens, "
        f"{_time(each.at_ms)}: {each.reason.replace('_', ' ').lower()}"
        for each in receipt.failovers
    )


def _times(receipt: Receipt) -> str:
    loading = f" (loading {_time(receipt.loading_ms)})" if receipt.loading_ms else ""
    computed = (
        ("first token after", receipt.first_token_ms),
        ("prefill", receipt.prefill_ms),
        ("decode", receipt.decode_ms),
    )
    parts = [f"{_time(receipt.total_ms)} in all", f"queued {_time(receipt.queued_ms)}{loading}"]
    parts += [
        f"router {receipt.overhead_ms:.1f} ms",
        *(f"{name} {_time(time_ms)}" for name, time_ms in computed if time_ms),
    ]
    return joined(parts)


def _time(time_ms: float) -> str:
    return f"{time_ms:.0f} ms" if time_ms < _LONG_MS else f"{time_ms / 1e3:.1f} s"


def _tokens(receipt: Receipt) -> str:
    if not receipt.prompt_tokens and not receipt.completion_tokens:
        return ""
    cached = f" ({receipt.cached_tokens} cached)" if receipt.cached_tokens else ""
    return f"{receipt.prompt_tokens} of the prompt{cached}, {receipt.completion_tokens} generated"
