"""Progress in one line, with the time left."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from dvae_tf.files import printable

_BAR = 20  # characters
_SECONDS = (0.2, 30.0)  # between two updates: on a terminal, elsewhere


class Progress:
    """Shows how far a job is.

    On a terminal the line is replaced. Elsewhere each picture gets a line when it is done, and a
    large one a line every half a minute; there are no control characters.

    Args:
        count: number of pictures.
        pixels: number of pixels of all pictures together.
        out: where to write; None takes stdout.
        clock: seconds that have passed.
    """

    def __init__(
        self,
        count: int,
        pixels: int,
        *,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._count, self._pixels = count, max(pixels, 1)
        self._out, self._clock = out or sys.stdout, clock
        self._is_terminal = self._out.isatty()
        self._start = self._shown = clock()
        self._number = self._done = self._told = 0
        self._name, self._length = "", 0

    def begin(self, name: str) -> None:
        """Begin with the next picture."""
        self._number += 1
        self._name = printable(name)
        if self._is_terminal:
            self._show()

    def add(self, pixels: int) -> None:
        """Count pixels that are done."""
        self._done += pixels
        if self._clock() - self._shown >= _SECONDS[not self._is_terminal]:
            self._show()

    def skip(self, pixels: int) -> None:
        """Count pixels that need not be done: they say nothing of the speed."""
        self._pixels = max(self._pixels - pixels, 1)

    def end(self) -> None:
        """End with a picture."""
        if not self._is_terminal and self._done != self._told:
            self._show()

    def say(self, text: str, *, out: TextIO | None = None) -> None:
        """Print a line of its own, above the progress."""
        self.clear()
        print(text, file=out or self._out, flush=True)

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._length:
            self._out.write("\r" + " " * self._length + "\r")
            self._out.flush()
            self._length = 0

    def _show(self) -> None:
        now = self._clock()
        self._shown, self._told = now, self._done
        share = min(self._done / self._pixels, 1.0)
        left = ""
        if share:
            left = f", {in_words((now - self._start) * (1 - share) / share)} left"
        text = f"{self._number}/{self._count} {self._name}: {int(100 * share)} %{left}"
        if not self._is_terminal:
            print(text, file=self._out, flush=True)
            return
        filled = int(_BAR * share)
        text = f"[{'=' * filled}{' ' * (_BAR - filled)}] {text}"
        text = text[: shutil.get_terminal_size().columns - 1]
        self._out.write("\r" + text + " " * (self._length - len(text)))
        self._out.flush()
        self._length = len(text)


def in_words(seconds: float) -> str:
    """Write a duration as "5 s", "3 min 20 s" or "2 h 5 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
