import errno
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import ROOT

from dvae_tf import commands
from dvae_tf.runs import training


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_tensorflows_full_disk_is_one_of_the_system():
    """As TensorBoard's flush meets it; tests/faults.py trains on such a disk."""
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        tf.io.write_file("/dev/full", "events")
    with pytest.raises(OSError, match="No space left on device") as converted:
        training._check_disk(caught.value)
    assert converted.value.errno == errno.ENOSPC
    assert commands.one_line(converted.value).startswith("The disk must have room. Received:")
    training._check_disk(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"))


@pytest.mark.slow
def test_damaged_files_and_full_disks_are_met_with_a_message():
    """One case of every kind; `python tests/faults.py` runs 200."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faults.py"), "--cases", "17"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "17 cases of damage" in done.stdout
