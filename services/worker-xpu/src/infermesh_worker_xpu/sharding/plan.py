"""Decides how each layer of a model is split over ranks, by transformers' tensor-parallel plan of its class."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition


class Split(Enum):
    """What a rank holds of a layer."""

    ROWS = auto()
    """Rows of the weight, which give a part of the outputs."""
    ROWS_JOINED = auto()
    """The same, and the parts of the outputs are joined."""
    KV_ROWS = auto()
    """The rows of the one KV head that this rank's queries read: there are more ranks than KV heads."""
    COLUMNS = auto()
    """Columns of the weight, for a part of the inputs; results are summed."""
    COLUMNS_CUT = auto()
    """The same, of an input of which every rank has all."""
    EXPERTS = auto()
    """Of each expert a part of its inner size; results are summed."""


Plan = Mapping[str, Split]
"""By the names of a model's modules. What it does not name is whole on every rank."""

_STYLES = {
    "colwise": Split.ROWS,
    "colwise_gather_output": Split.ROWS_JOINED,
    "colwise_rep": Split.ROWS_JOINED,
    "rowwise": Split.COLUMNS,
    "rowwise_split_input": Split.COLUMNS_CUT,
    "rowwise_rep": Split.COLUMNS_CUT,
    "moe_tp_experts": Split.EXPERTS,
}
"""transformers names the styles after the transposed weight."""
_JOINED = {Split.ROWS: Split.ROWS_JOINED, Split.COLUMNS: Split.COLUMNS_CUT}
_WHOLE = frozenset({"replicated_with_grad_allreduce", "replicate", "embedding_rowwise", "embedding_colwise"})
"""Styles of what is whole on every rank. Embeddings are only read, and joining them costs more than it saves."""
_ATTENTION = {**dict.fromkeys(("q_proj", "k_proj", "v_proj"), "colwise"), "o_proj": "rowwise"}
_MLP = {"gate_proj": "colwise", "up_proj": "colwise", "down_proj": "rowwise"}
USUAL = {f"layers.*.self_attn.{name}": style for name, style in _ATTENTION.items()} | {
    f"layers.*.mlp.{name}": style for name, style in _MLP.items()
}
"""The plan of the many models that are built as Llama is."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Numbers of heads of a model's attention."""

    query: int
    kv: int

    def check(self, ranks: int) -> None:
        """Raises FailedPrecondition unless each rank gets equally many."""
        if self.query % ranks or (self.kv % ranks and ranks % self.kv):
            fits = [str(size) for size in range(2, self.query + 1) if _fits(self, size)]
            advice = f"it can be split over {', '.join(fits)}" if fits else "it can only run on one device"
            raise _refusal(
                f"its {self.query} attention heads and {self.kv} KV heads do not divide by {ranks} devices; {advice}"
            )


def heads_of(config: Any) -> Heads:
    """The heads of a transformers model, by its configuration. Raises FailedPrecondition if layers differ."""
    query = config.num_attention_heads
    kv = getattr(config, "num_key_value_heads", None) or query
    if not isinstance(query, int) or not isinstance(kv, int):
        raise _refusal("its layers have different numbers of heads")
    return Heads(query, kv)


def plan_model(model: PreTrainedModel, ranks: int, *, exact: bool) -> Plan:
    """How to split a model of transformers, whose weights need not be loaded; see `plan_part`."""
    config, decoder = model.config.get_text_config(), model.get_decoder()
    styles = getattr(config, "base_model_tp_plan", None) or USUAL
    part = plan_part(decoder, styles, heads_of(config), ranks, exact=exact)
    if not part:
        raise _refusal("there is no plan how to split a model of its class over devices")
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    return {f"{prefix}.{name}": split for name, split in part.items()} | plan_head(model, ranks)


def plan_part(
    root: nn.Module, styles: Mapping[str, str], heads: Heads, ranks: int, *, exact: bool, prefix: str = ""
) -> dict[str, Split]:
    """How to split a part of a decoder, by the names of its modules within it.

    `exact`: results must have the bits of one rank. Mixtures of experts are then whole on every rank. `prefix`: comes
    before the names in `styles`. Raises FailedPrecondition if it cannot be split over so many ranks.
    """
    plan = dict(_named_splits(root, styles, prefix))
    if exact:
        plan = {name: _exact(name, split) for name, split in plan.items() if split is not Split.EXPERTS}
    if any(split is Split.ROWS and _in_attention(f".{name}") for name, split in plan.items()):
        heads.check(ranks)  # otherwise each rank computes all heads
        if heads.kv % ranks:
            plan |= {name: Split.KV_ROWS for name in plan if name.endswith((".k_proj", ".v_proj"))}
    for name, split in plan.items():
        _check_size(name, root.get_submodule(name), split, ranks)
    return plan


def plan_head(model: PreTrainedModel, ranks: int) -> dict[str, Split]:
    """How to split the output head: not, if the vocabulary's size is not a multiple of the number of ranks."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.out_features % ranks:
        return {}
    return {next(name for name, module in model.named_modules() if module is head): Split.ROWS_JOINED}


def _named_splits(root: nn.Module, styles: Mapping[str, str], prefix: str) -> Iterator[tuple[str, Split]]:
    for name, module in root.named_modules():
        style = styles.get(re.sub(r"\.\d+(?=\.|$)", ".*", prefix + name))
        if style is None or style in _WHOLE:
            continue
        split = _STYLES.get(style)
        if split is None or (split is not Split.EXPERTS and type(module) is not nn.Linear):
            raise _refusal(f"the plan for its {name} is {style!r}, which worker-xpu cannot follow")
        if split is not Split.EXPERTS or _has_plain_experts(module):
            yield name, split


def _exact(name: str, split: Split) -> Split:
    """How to split a layer so that what lies between it and others has the bits of one rank.

    Activation functions compute the last few numbers of a tensor in another way than the rest, so they need all of it.
    """
    return split if _in_attention(f".{name}") else _JOINED.get(split, split)


def _in_attention(name: str) -> bool:
    return ".self_attn." in name or ".attention." in name


def _has_plain_experts(experts: nn.Module) -> bool:
    """Whether they are stacked weights gate_up_proj [E, 2 × inner, hidden] and down_proj [E, hidden, inner]."""
    names = {name for name, _ in experts.named_parameters()}
    return names == {"gate_up_proj", "down_proj"} and not getattr(experts, "is_transposed", False)


def _check_size(name: str, module: nn.Module, split: Split, ranks: int) -> None:
    if isinstance(module, nn.Linear):
        size = module.in_features if split in {Split.COLUMNS, Split.COLUMNS_CUT} else module.out_features
    else:
        size = module.get_parameter("down_proj").shape[-1]
    if split is not Split.KV_ROWS and size % ranks:
        raise _refusal(f"the size {size} of its {name} is not a multiple of {ranks} devices")


def _fits(heads: Heads, ranks: int) -> bool:
    return heads.query % ranks == 0 and (heads.kv % ranks == 0 or ranks % heads.kv == 0)


def _refusal(reason: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"This model cannot be split over several devices: {reason}. Give the worker another number of devices "
        "(INFERMESH_DEVICE_INDEX), or one.",
        reason="MODEL_NOT_SUPPORTED",
    )
