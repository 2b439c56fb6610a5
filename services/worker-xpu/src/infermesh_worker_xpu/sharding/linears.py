"""Linear layers of which each rank has a part: rows of the weight, whose results are joined, or columns, summed.

Where results must have the bits of one rank, every layer is split by rows of its weight: each number is then computed
by one rank, from the same numbers in the same order. Sums of parts would round differently.
"""

from torch import Tensor, nn

from infermesh_worker_xpu.sharding.group import Group


class JoinedLinear(nn.Module):
    """Computes a part of the outputs from the whole input, and gives all outputs."""

    def __init__(self, linear: nn.Linear, group: Group, *, joins_inputs: bool = False) -> None:
        """`joins_inputs`: each rank is given a part of the input."""
        super().__init__()
        self.linear = linear
        self.group = group
        self.joins_inputs = joins_inputs

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features], or this rank's part of them, to [..., all out_features]."""
        if self.joins_inputs:
            inputs = self.group.joined(inputs)
        return self.group.joined(self.linear(inputs))


class SummedLinear(nn.Module):
    """Computes a summand of all outputs from this rank's part of the input, and gives the sum."""

    def __init__(self, linear: nn.Linear, group: Group, *, cuts_inputs: bool = False) -> None:
        """`linear` holds columns of the weight, and the whole bias. `cuts_inputs`: each rank is given all inputs."""
        super().__init__()
        self.linear = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
        self.linear.weight = linear.weight
        self.bias: nn.Parameter | None = linear.bias
        self.group = group
        self.cuts_inputs = cuts_inputs

    def forward(self, inputs: Tensor) -> Tensor:
        """This rank's part of [..., in_features], or all of them, to [..., out_features]."""
        if self.cuts_inputs:
            inputs = inputs.chunk(self.group.size, -1)[self.group.rank]
        result = self.group.summed(self.linear(inputs))
        return result if self.bias is None else result + self.bias
