"""Writes small torch programs: of torch.export and TorchScript."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = torch.randn((4, 3), generator=torch.Generator().manual_seed(7))
ROWS = torch.export.Dim("rows", min=1, max=4096)


class Linear(nn.Module):
    """y = x @ WEIGHTS, as one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(WEIGHTS.clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.weights)


class Two(nn.Module):
    """Two named outputs of two inputs of one shape."""

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"sum": a + b, "product": a * b}


class Same(nn.Module):
    """y = x, of any type."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class RunningSum(nn.Module):
    """The running sum over the open first dimension, which is therefore no batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(0)


class Counter(nn.Module):
    """Changes its own buffer, so that answers depend on earlier requests."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x + self.count


class Scaled(nn.Module):
    """y = x * factor, with a plain number."""

    def forward(self, x: Tensor, factor: float) -> Tensor:
        return x * factor


def export(path: Path, module: nn.Module, *examples: Tensor, fixed: bool = False) -> Path:
    """Writes a torch.export program whose inputs have an open first dimension, unless `fixed`."""
    shapes = None if fixed else tuple({0: ROWS} for _ in examples)
    torch.export.save(torch.export.export(module, examples, dynamic_shapes=shapes), path)
    return path


def linear(path: Path, *, fixed: bool = False) -> Path:
    return export(path, Linear(), torch.ones(2, 4), fixed=fixed)


def script(path: Path, module: nn.Module, described: Mapping[str, Any] | None, *, inside: bool = False) -> Path:
    """Writes a TorchScript program, with the description of its tensors beside it or inside."""
    text = json.dumps(described)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted: Any = torch.jit.script(module)
        scripted.save(str(path), _extra_files={"tensors.json": text} if inside else {})
    if described and not inside:
        path.with_suffix(".tensors.json").write_text(text)
    return path


def spec(name: str, *shape: int, dtype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


LINEAR_TENSORS = {"inputs": [spec("x", -1, 4)], "outputs": [spec("y", -1, 3)]}
