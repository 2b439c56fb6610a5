"""Replaces the random numbers of a graph by a fixed table, so that the same text always sounds the same.

OpenVINO goes on with its random numbers from one run to the next, whatever seed a graph names.
"""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

_COUNT = 1 << 18
"""Length of the table; a sound of 10 s repeats it, which nobody hears in noise."""
_SEED = 20_24


def fix_noise(model: ov.Model) -> int:
    """Replaces each draw by elements of a table of its own; returns how many draws there were."""
    draws = [op for op in model.get_ordered_ops() if op.get_type_name() == "RandomUniform"]
    for index, draw in enumerate(draws):
        dtype = draw.get_output_element_type(0)
        if not dtype.is_real():
            continue
        shape, least, most = (draw.input_value(place) for place in range(3))
        table = np.random.default_rng([_SEED, index]).random(_COUNT, np.float32).clip(1e-7)
        count = ops.reduce_prod(ops.convert(shape, "i64"), ops.constant(np.array([0], np.int64)), keep_dims=False)
        places = ops.range(ops.constant(np.int64(0)), count, ops.constant(np.int64(1)), "i64")
        places = ops.floor_mod(places, ops.constant(np.int64(_COUNT)))
        drawn = ops.convert(ops.gather(ops.constant(table), places, ops.constant(np.int64(0))), dtype.to_string())
        scaled = ops.add(ops.multiply(drawn, ops.subtract(most, least)), least)
        replaced = ops.reshape(scaled, shape, special_zero=False)
        draw.output(0).replace(replaced.output(0))
    return len(draws)
