import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def test_damaged_files_and_full_disks_are_met_with_a_message():
    """One case of every kind; `python tests/faults.py` runs 200."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faults.py"), "--cases", "17"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "17 cases of damage" in done.stdout
