"""Leaves of a model's layers what this rank holds, and lets them join or sum what the ranks compute."""

from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from infermesh_worker_xpu.sharding.group import Group
from infermesh_worker_xpu.sharding.linears import JoinedLinear, SummedLinear
from infermesh_worker_xpu.sharding.plan import Heads, Plan, Split

_COLUMNS = frozenset({Split.COLUMNS, Split.COLUMNS_CUT})


def cut(root: nn.Module, plan: Plan, heads: Heads, group: Group, *, exact: bool) -> None:
    """Cuts the modules that the plan names, in place. Weights may be whole, or transformers may have cut them."""
    for name, split in plan.items():
        parent_name, _, attribute = name.rpartition(".")
        parent, child = root.get_submodule(parent_name), root.get_submodule(name)
        child.__dict__.pop("forward", None)  # transformers' own sums and joins
        if split is Split.EXPERTS:
            _cut_experts(child, group)
        elif isinstance(child, nn.Linear):
            setattr(parent, attribute, _cut_linear(child, split, heads, group, exact=exact))
    if any(split is Split.KV_ROWS for split in plan.values()):
        _adjust_repeats(root, heads, group)


def _cut_linear(linear: nn.Linear, split: Split, heads: Heads, group: Group, *, exact: bool) -> nn.Module:
    by_columns = split in _COLUMNS and not exact
    if split is Split.KV_ROWS:
        part = _part_of(linear, 0, group.rank * heads.kv // group.size, heads.kv)
    else:
        part = _part_of(linear, 1 if by_columns else 0, group.rank, group.size)
    if by_columns:
        return SummedLinear(part, group, cuts_inputs=split is Split.COLUMNS_CUT)
    if split in _COLUMNS or split is Split.ROWS_JOINED:
        return JoinedLinear(part, group, joins_inputs=split is Split.COLUMNS)
    return part


def _part_of(linear: nn.Linear, axis: int, place: int, parts: int) -> nn.Linear:
    """A layer with one part of the weight's rows (axis 0) or columns (1), and the bias that belongs to it."""
    weight = _taken(linear.weight, axis, place, parts)
    part = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device="meta")
    part.weight = _parameter(weight)
    if linear.bias is not None:
        bias = linear.bias if axis else _taken(linear.bias, 0, place, parts)
        part.bias = _parameter(bias.to_local() if isinstance(bias, DTensor) else bias)
    return part


def _cut_experts(experts: Any, group: Group) -> None:
    """Each expert's gate and up projection by rows, each for itself, and its down projection by columns."""
    both, down = experts.gate_up_proj, experts.down_proj
    if isinstance(both, DTensor):
        cut_both = both.to_local()
    else:
        count, rows, hidden = both.shape
        halves = both.detach().view(count, 2, rows // 2, hidden).chunk(group.size, 2)[group.rank]
        cut_both = halves.reshape(count, -1, hidden).clone()
    experts.gate_up_proj = _parameter(cut_both)
    experts.down_proj = _parameter(_taken(down, 2, group.rank, group.size))
    experts.register_forward_hook(lambda _module, _given, result: group.summed(result))


def _taken(values: Tensor, axis: int, place: int, parts: int) -> Tensor:
    if isinstance(values, DTensor):
        return values.to_local()
    return values.detach().chunk(parts, axis)[place].clone()


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().contiguous(), requires_grad=False)


def _adjust_repeats(root: nn.Module, heads: Heads, group: Group) -> None:
    """Tells attention modules how many of this rank's queries read one KV head, where they keep that number."""
    for module in root.modules():
        if hasattr(module, "num_key_value_groups"):
            setattr(module, "num_key_value_groups", heads.query // group.size)  # noqa: B010 - mypy sees a module there
