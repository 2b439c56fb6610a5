"""Tells transformers which part of each weight to read from safetensors files."""

import os
import re
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig

from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.sharding.group import Group
from infermesh_worker_xpu.sharding.plan import Plan, Split, plan_model

_ROWS, _COLUMNS, _WHOLE = "colwise", "rowwise", "replicate"
"""transformers' names, after the transposed weight."""


def skeleton(auto: Any, config: PretrainedConfig) -> PreTrainedModel:
    """The model without weights. Raises whatever transformers does."""
    with torch.device("meta"):
        model: PreTrainedModel = auto.from_config(config)
    return model


def read_parts(
    model: PreTrainedModel, device: TorchDevice, group: Group, *, exact: bool
) -> tuple[Plan, dict[str, Any]]:
    """The plan for a model without weights, and the options of `from_pretrained` that read only this rank's part.

    No options: transformers takes a group of ranks to run on the accelerator that torch is built for. On another device
    the weights are read whole and must be cut. Raises FailedPrecondition if the model cannot be split.
    """
    plan = plan_model(model, group.size, exact=exact)
    if torch._C._get_accelerator().type != device.handle.type:
        return plan, {}
    os.environ["LOCAL_RANK"] = str(device.handle.index or 0)  # the device that transformers sets
    rules = dict.fromkeys(model.tp_plan or {}, _WHOLE)
    tied = {name for names in getattr(model, "all_tied_weights_keys", {}).items() for name in names}
    for name, split in plan.items():
        if split is not Split.KV_ROWS and f"{name}.weight" not in tied:
            rules |= _rules(re.sub(r"\.\d+(?=\.|$)", ".*", name), split, exact=exact)
    return plan, {"distributed_config": DistributedConfig(tp_size=group.size, tp_plan=rules)}


def _rules(name: str, split: Split, *, exact: bool) -> dict[str, str]:
    if split is Split.EXPERTS:
        return {f"{name}.gate_up_proj": "packed_colwise", f"{name}.down_proj": _COLUMNS}
    by_columns = split in {Split.COLUMNS, Split.COLUMNS_CUT} and not exact
    return {name: _COLUMNS if by_columns else _ROWS}
