"""Denoises one file after the other: what is done is skipped, what is damaged is named."""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dvae_tf import commands
from dvae_tf.denoising import record
from dvae_tf.denoising.denoiser import Answer, Denoiser
from dvae_tf.denoising.inputs import Work
from dvae_tf.denoising.progress import Progress
from dvae_tf.kinds.image import reading, writing
from dvae_tf.kinds.image.picture import Header
from dvae_tf.streamed import DatasetError

_FAILURES = (DatasetError, OSError, MemoryError, tf.errors.ResourceExhaustedError)


class Outcome(NamedTuple):
    """Numbers of pictures: denoised now, denoised before, and those that could not be."""

    denoised: int
    skipped: int
    failed: int


class Job:
    """Files to denoise.

    Args:
        works: the files, from `inputs.collect`.
        out: folder of their results.
        denoiser: applies the model.
        name: name of the command, for messages on stderr.
        key: JSON values that identify the model and the scale. What was denoised with the same key
            and settings is skipped.
    """

    def __init__(
        self, works: Sequence[Work], out: Path, denoiser: Denoiser, *, name: str, key: Any = None
    ):
        self._works, self._out, self._denoiser, self._name = works, out, denoiser, name
        self._key = [key, dataclasses.asdict(denoiser.settings)]
        self._remarks: set[str] = set()

    def run(self) -> Outcome:
        """Denoise all files; those that cannot be read or denoised are named on stderr.

        Raises:
            OSError: if a result cannot be written.
        """
        self._out.mkdir(parents=True, exist_ok=True)
        record.sweep(path for work in self._works for path in work.results)
        done = record.Record(self._out)
        found = {work: _header(work) for work in self._works}
        headers = [header for header in found.values() if isinstance(header, Header)]
        self._largest = max((math.prod(header.shape[1:3]) for header in headers), default=0)
        self._progress = Progress(len(self._works), sum(map(self._pixels, headers)))
        denoised = skipped = failed = 0
        try:
            for work, header in found.items():
                self._progress.begin(str(work.source))
                try:
                    if not isinstance(header, Header):
                        raise header
                    key = record.key_of(work.source, self._key)
                    if done.is_done(work.target, key, work.results):
                        skipped += 1
                        self._progress.skip(self._pixels(header))
                        continue
                    answer = self._answer(work, header)
                except _FAILURES as error:
                    failed += 1
                    if isinstance(header, Header):
                        self._progress.skip(self._pixels(header))
                    text = f"{self._name}: error: {_words(work, error)}"
                    self._progress.say(text, out=sys.stderr)
                    continue
                _write(work, answer)
                done.add(work.target, key, work.results)
                denoised += 1
                self._progress.end()
        finally:
            self._progress.clear()
        return Outcome(denoised, skipped, failed)

    def _pixels(self, header: Header) -> int:
        """Return how many pixels the model sees of a picture."""
        return math.prod(header.shape[:3]) * self._denoiser.times(header)

    def _answer(self, work: Work, header: Header) -> Answer:
        try:
            if remark := self._denoiser.check(header):
                self._remark(remark)
            self._denoiser.prepare(self._largest)
            answer = self._denoiser(reading.read(work.source), report=self._progress.add)
        except DatasetError:
            raise
        except ValueError as error:
            raise DatasetError(f"{work.source} {error}") from error
        if answer.unseen:
            self._remark(f"{work.source} has {answer.unseen} values of NaN or infinity: they stay")
        return answer

    def _remark(self, text: str) -> None:
        """Print a warning, unless it was printed before."""
        if text not in self._remarks:
            self._remarks.add(text)
            self._progress.clear()
            commands.warn(text)


def _header(work: Work) -> Header | DatasetError:
    try:
        return reading.header(work.source)
    except DatasetError as error:
        return error


def _write(work: Work, answer: Answer) -> None:
    """Write the results of a file, the mean last.

    Raises:
        OSError: if one cannot be written.
    """
    work.target.parent.mkdir(parents=True, exist_ok=True)
    for path, draw in zip(work.draws, answer.draws, strict=True):
        writing.write(path, draw)
    if work.stddev is not None and answer.stddev is not None:
        writing.write_floats(work.stddev, answer.stddev, like=answer.mean)
    writing.write(work.target, answer.mean)


def _words(work: Work, error: BaseException) -> str:
    """Return what happened to a file, in one line."""
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return f"{work.source} needs more memory than there is. Choose smaller tiles, --tile N."
    return commands.one_line(error)
