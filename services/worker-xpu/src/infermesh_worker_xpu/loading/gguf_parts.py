"""Cuts the layers of a GGUF file's decoder for one of several ranks, each as soon as it is read."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from infermesh_runtime.gguf_account.spec import DecoderSpec
from infermesh_worker_xpu.sharding.cut import cut
from infermesh_worker_xpu.sharding.group import Group
from infermesh_worker_xpu.sharding.plan import USUAL, Heads, plan_head, plan_part

_STYLES = {**USUAL, "layers.*.mlp.experts": "moe_tp_experts"}
_WHOLE_NORMS = {
    **dict.fromkeys((f"layers.*.self_attn.{name}_proj" for name in "qkv"), "colwise_gather_output"),
    "layers.*.self_attn.o_proj": "rowwise_split_input",
}
"""Of models that norm all heads of a token at once: every rank needs all of them."""


@dataclass(frozen=True, slots=True)
class GgufCut:
    """Leaves of a decoder what this rank of `group` holds. Raises FailedPrecondition for what cannot be split."""

    group: Group
    exact: bool
    """Whether results must have the bits of one rank."""

    def layer(self, layer: nn.Module, spec: DecoderSpec) -> None:
        styles = {**_STYLES, **_WHOLE_NORMS} if spec.norms_whole_heads else _STYLES
        heads = _heads(layer, spec.head_size)
        plan = plan_part(layer, styles, heads, self.group.size, exact=self.exact, prefix="layers.0.")
        cut(layer, plan, heads, self.group, exact=self.exact)

    def head(self, model: PreTrainedModel) -> None:
        plan = plan_head(model, self.group.size)
        cut(model, plan, Heads(1, 1), self.group, exact=self.exact)


def _heads(layer: nn.Module, size: int) -> Heads:
    query, key = (layer.get_parameter(f"self_attn.{name}_proj.weight") for name in "qk")
    return Heads(len(query) // size, len(key) // size)
