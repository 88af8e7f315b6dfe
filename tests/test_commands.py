"""What commands do with Ctrl-C and with limits. Children import few modules: TensorFlow is slow."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT

PREPARE = """
import resource, signal, sys, time, types
package = types.ModuleType("dvae_tf")  # without its __init__
package.__path__ = ["dvae_tf"]
sys.modules["dvae_tf"] = package
from dvae_tf import commands
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent ignores
"""
CHILD = """
class Terminal:  # which is slow
    def write(self, text):
        print("printing", flush=True)
        time.sleep(600)

sys.stderr = Terminal() if sys.argv[1] == "printing" else sys.stderr
with commands.Interruptible() as block:
    block.hint = "stopped: continue with X"
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        while sys.argv[1] == "closing":
            try:
                print("closing", flush=True)
                time.sleep(600)
            except KeyboardInterrupt:
                pass
sys.exit(130)
"""


def start(code, *words):
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE + code, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("again", ["never", "closing", "printing"])  # when it is pressed again
def test_ctrl_c_once_or_twice_ends_with_the_hint(again):
    with start(CHILD, again) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        if again != "never":
            assert child.stdout.readline() == f"{again}\n"
            child.send_signal(signal.SIGINT)
        try:
            _, errors = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 130
    assert errors.splitlines() == ["", "stopped: continue with X"]


def test_ctrl_c_is_as_before_after_the_block_and_stays_ignored():
    code = """
before = signal.getsignal(signal.SIGINT)
with commands.Interruptible():
    assert signal.getsignal(signal.SIGINT) is not before
assert signal.getsignal(signal.SIGINT) is before
signal.signal(signal.SIGINT, signal.SIG_IGN)
with commands.Interruptible():
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""
    with start(code) as child:
        assert child.communicate() == ("", "")


def test_a_limited_address_space_is_announced():
    code = """
commands.warn_of_limits()
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, resource.RLIM_INFINITY))
commands.warn_of_limits()
"""
    with start(code) as child:
        (line,) = child.communicate()[1].splitlines()
    assert line.startswith("warning: the address space is limited to 3.0 GiB (ulimit -v).")
