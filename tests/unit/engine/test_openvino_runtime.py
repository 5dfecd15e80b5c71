"""OpenVINO in a process of its own: an error in native code there would take all other tests along."""

import subprocess
import sys
from pathlib import Path

import pytest

from vivavoz.engine import openvino_runtime


@pytest.mark.skipif(openvino_runtime.lacks(int8=False) is not None, reason="no OpenVINO")
def test_the_checks_of_openvino_pass():
    checks = Path(__file__).with_name("openvino_checks.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(checks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"rc {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-1000:]}"
    assert " skipped" not in done.stdout or openvino_runtime.lacks(int8=True) is not None
