"""The server gives free memory back to the system."""

import asyncio
import platform
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from dvae_tf.serving import application, memory


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc alone")
def test_holes_between_what_is_in_use_are_given_back():
    blocks = [bytes(4000) for _ in range(40_000)]  # 150 MiB, beyond Python's own pools
    kept = blocks[::100]
    del blocks
    before = resident_mib()
    memory.give_back()
    assert resident_mib() < before - 100
    assert len(kept) == 400


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory._malloc_trim.cache_clear()
    memory.give_back()
    memory._malloc_trim.cache_clear()


def test_the_server_does_so_again_and_again(monkeypatch):
    calls = []
    monkeypatch.setattr(application, "_MEMORY_SECONDS", 0.01)
    monkeypatch.setattr(memory, "give_back", lambda: calls.append(None))
    app = application.Application(SimpleNamespace(refresh=lambda: None))

    async def live():
        async with app._lifespan(None):
            while len(calls) < 3:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(live(), 20))
