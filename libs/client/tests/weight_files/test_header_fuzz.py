"""Files with mutated headers are answered in words, quickly, and in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = int(os.environ.get("INFERMESH_TEST_HEADERS", "200"))
"""How many files are tried; the full test has 2000."""
ROOT = Path(__file__).parents[4]


@pytest.mark.timeout(60 + COUNT)
def test_mutated_headers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "libs.client.tests.weight_files.fuzz_headers", str(COUNT), "1", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["refused"] + result["accepted"] == COUNT
    assert result["refused"] > COUNT / 2
