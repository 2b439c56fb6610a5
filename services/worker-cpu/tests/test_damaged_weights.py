"""A single logit that is not finite is noticed, although the plugin's TopK does not put it first."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from infermesh_engine.runners.first_pass import is_finite
from infermesh_worker_cpu.convert_model import XML
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner

COLUMN = 777


def test_one_column_of_the_head_that_is_not_finite_is_noticed(
    default_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DamagedCore(ov.Core):  # type: ignore[misc] # openvino has no types
        """Reads models whose logit COLUMN is NaN."""

        def read_model(self, *arguments: Any) -> ov.Model:
            model = super().read_model(*arguments)
            result = model.get_results()[0]
            logits = result.input_value(0)
            bias = np.zeros(logits.get_partial_shape()[-1].get_length(), np.float32)
            bias[COLUMN] = np.nan
            result.input(0).replace_source_output(ops.add(logits, ops.constant(bias)).output(0))
            return model

    monkeypatch.setattr("infermesh_worker_cpu.runner.ov.Core", DamagedCore)
    xml = default_model / "openvino" / XML
    runner = OpenVinoRunner(xml, OpenVinoOptions(kv_cache_bytes=8 << 20, context_length=256))
    assert not is_finite(runner)
    runner.close()


def test_a_sound_model_passes(fast_model: Any) -> None:
    assert is_finite(fast_model.runner)
