"""Names the precisions that converters can compress a model's weights to."""

from typing import Literal

WeightPrecision = Literal["int8", "int4"]
