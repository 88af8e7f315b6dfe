"""Memory of this machine: what is free, and what a computation takes."""

import os
import re
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CGROUP = Path("/sys/fs/cgroup")


def available() -> int:
    """Return how many bytes are free: of the machine, or of the container if it has less."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        free = _kilobytes(text, "MemAvailable")
    except (OSError, ValueError):  # another system than Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        most = int((_CGROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((_CGROUP / "memory.current").read_text(encoding="utf-8"))
        cached = re.search(
            r"^inactive_file (\d+)$",
            (_CGROUP / "memory.stat").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        free = min(free, most - used + int(cached[1] if cached else 0))
    except (OSError, ValueError):  # no limit, or no such files
        pass
    return max(free, 0)


def growth(function: Callable[[], object]) -> int | None:
    """Call a function, and return by how many bytes memory in use rose at most; None if unknown.

    Memory that was free in this process already is not counted: nothing of the size must have been
    computed before.
    """
    try:
        _CLEAR.write_text("5", encoding="utf-8")  # resets the peak
        before = _kilobytes(_STATUS.read_text(encoding="utf-8"), "VmRSS")
    except (OSError, ValueError):
        function()
        return None
    function()
    return max(_kilobytes(_STATUS.read_text(encoding="utf-8"), "VmHWM") - before, 0)


def _kilobytes(text: str, name: str) -> int:
    """Return the bytes of an entry of /proc, which are in kB.

    Raises:
        ValueError: if there is none.
    """
    found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no entry {name}")
    return int(found[1]) * 1024
