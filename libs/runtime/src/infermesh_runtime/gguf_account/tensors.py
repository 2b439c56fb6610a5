"""Finds the tensors of a decoder by name and checks their shapes; none may be missing, wrong or left over."""

from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.gguf_account.architectures import Architecture
from infermesh_runtime.gguf_account.contents import Linear, StoredTensor

ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes that shapes follow from."""

    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    mlp: int
    rope_dimensions: int


class TensorFinder:
    """Gives out tensors by name, and remembers which were used.

    Its methods raise InvalidArgument, naming the tensor, when one is missing or has another shape than expected.
    """

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self._tensors = tensors
        self.used: set[str] = set()

    def named(self, name: str, *shape: int) -> str:
        stored = self._tensors.get(name)
        if stored is None:
            raise InvalidArgument(f"this GGUF file has no tensor {name}", fields={name: "is missing"})
        if stored.shape != shape:
            raise InvalidArgument(
                f"this GGUF file's tensor {name} has the shape {list(stored.shape)}; its keys ask for {list(shape)}",
                fields={name: f"must have the shape {list(shape)}"},
            )
        self.used.add(name)
        return name

    def optional(self, name: str, *shape: int) -> str | None:
        return self.named(name, *shape) if name in self._tensors else None

    def linear(self, prefix: str, rows: int, columns: int) -> Linear:
        """A matrix `prefix`.weight, with `prefix`.bias if the file has it."""
        return self.slices(prefix, (rows,), columns)[0]

    def slices(self, prefix: str, parts: tuple[int, ...], columns: int) -> list[Linear]:
        """A matrix whose rows belong to several projections, one after the other."""
        weight = self.named(f"{prefix}.weight", sum(parts), columns)
        bias = self.optional(f"{prefix}.bias", sum(parts))
        begins = [sum(parts[:index]) for index in range(len(parts))]
        return [Linear(weight, begin, rows, bias) for begin, rows in zip(begins, parts, strict=True)]

    def stacked(self, prefix: str, experts: int, parts: tuple[int, ...], columns: int) -> list[Linear]:
        """One matrix for each expert, whose rows belong to several projections, one after the other."""
        weight = self.named(f"{prefix}.weight", experts, sum(parts), columns)
        begins = [sum(parts[:index]) for index in range(len(parts))]
        return [Linear(weight, begin, rows) for begin, rows in zip(begins, parts, strict=True)]

    def row(self, name: str, columns: int) -> str:
        """A vector, which may be stored as a matrix of one row."""
        return self.named(name, *((1, columns) if self.rows(name) == 1 else (columns,)))

    def has(self, name: str) -> bool:
        return name in self._tensors

    def rows(self, name: str) -> int:
        """The number of rows of a matrix; 0 if there is no such matrix."""
        stored = self._tensors.get(name)
        return stored.shape[0] if stored is not None and len(stored.shape) == 2 else 0

    def refuse_unused(self) -> None:
        """Raises InvalidArgument for a tensor that nothing has used."""
        for name in self._tensors:
            if name not in self.used:
                raise InvalidArgument(
                    f"this GGUF file has a tensor {name}, which infermesh does not know how to apply. "
                    "A model read without it would answer wrongly, so it is refused",
                    fields={name: "is not supported"},
                )


def attention(finder: TensorFinder, block: str, sizes: Sizes) -> tuple[Linear, Linear, Linear, Linear]:
    """Query, key, value and output projections; the first three may be one tensor."""
    parts = (sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size, sizes.kv_heads * sizes.head_size)
    if finder.has(f"{block}.attn_qkv.weight"):
        query, key, value = finder.slices(f"{block}.attn_qkv", parts, sizes.hidden)
    else:
        query, key, value = (
            finder.linear(f"{block}.attn_{name}", rows, sizes.hidden) for name, rows in zip("qkv", parts, strict=True)
        )
    return query, key, value, finder.linear(f"{block}.attn_output", sizes.hidden, parts[0])


def mlp(finder: TensorFinder, block: str, rules: Architecture, sizes: Sizes) -> tuple[Linear, Linear, Linear]:
    """Gate, up and down projections; the first two may be one tensor."""
    if rules.fused_mlp:
        gate, up = finder.slices(f"{block}.ffn_up", (sizes.mlp, sizes.mlp), sizes.hidden)
    else:
        gate = finder.linear(f"{block}.ffn_gate", sizes.mlp, sizes.hidden)
        up = finder.linear(f"{block}.ffn_up", sizes.mlp, sizes.hidden)
    return gate, up, finder.linear(f"{block}.ffn_down", sizes.hidden, sizes.mlp)


def norms(finder: TensorFinder, block: str, rules: Architecture, sizes: Sizes) -> dict[str, str | None]:
    """The norms of a layer, by LayerSpec's field."""
    heads = {"none": (0, 0), "head": (1, 1), "whole": (sizes.heads, sizes.kv_heads)}[rules.qk_norm]

    def norm(name: str, wanted: bool, width: int) -> str | None:
        return finder.named(f"{block}.{name}.weight", width) if wanted else None

    return {
        "attention_norm": norm("attn_norm", rules.pre_norms, sizes.hidden),
        "query_norm": norm("attn_q_norm", heads[0] > 0, heads[0] * sizes.head_size),
        "key_norm": norm("attn_k_norm", heads[1] > 0, heads[1] * sizes.head_size),
        "attention_post_norm": norm("post_attention_norm", rules.post_norms, sizes.hidden),
        "mlp_norm": norm("ffn_norm", rules.pre_norms, sizes.hidden),
        "mlp_post_norm": norm("post_ffw_norm", rules.post_norms, sizes.hidden),
    }


def rope_tensors(finder: TensorFinder, rules: Architecture, sizes: Sizes) -> None:
    """Checks the tensors of rope factors. One that the chosen context length leaves out is known, not unknown."""
    if rules.rope_tensors:
        for name in ROPE_TENSORS:
            finder.optional(name, sizes.rope_dimensions // 2)
