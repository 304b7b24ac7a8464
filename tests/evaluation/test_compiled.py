"""The compiled loops: what is said where they are missing."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("extension", "user"), [("_seq_nms", "seq_nms"), ("_weighing", "mean_ap"), ("_results_text", "results_file")]
)
def test_missing_extension_is_said_with_the_command_that_builds_it(extension, user):
    code = f"import sys; sys.modules['lib.evaluation.{extension}'] = None; import lib.evaluation.{user}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert f"lib.evaluation.{user} needs its compiled extension" in result.stderr
    assert "pip install --no-build-isolation -e ." in result.stderr
