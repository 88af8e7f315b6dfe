"""Patches of images of different sizes, all of which are held in memory as one flat array.

Training cuts patches at random places, so that it never sees the same ones again. Held-out splits
have the patches of a grid, which are always the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from dvae_tf import randomness

NUM_SYMMETRIES = 8  # of a square: four rotations, each of them flipped or not
_RESOLUTION = 24  # bits of `randomness.uniform`


@dataclass(frozen=True, eq=False)
class Patches:
    """Square patches of images, an array [n, P, P, C] of which only the images are in memory.

    The patches are those of a grid: in each direction the last one is moved back, so that it ends
    where the image does. An image that is smaller than a patch is continued to the right and below by
    its reflection, without a repeated edge. `of` makes patches of images.

    Args:
        values: [pixels, C], all images one after the other, row by row.
        table: int64 [images, 3], for every image its first pixel in `values`, height and width.
        places: int64 [n, 3], for every patch its image, its top row and its left column.
        size: P, height and width of a patch.
    """

    values: np.ndarray
    table: np.ndarray
    places: np.ndarray
    size: int

    @classmethod
    def of(cls, images: Sequence[np.ndarray], size: int) -> "Patches":
        """Return all patches of some images.

        Args:
            images: arrays [H, W, C] of one type and number of channels; sizes may differ.
            size: P.
        """
        sizes = np.array([image.shape[:2] for image in images], np.int64)
        ends = np.cumsum(sizes.prod(axis=1))
        table = np.column_stack([ends - sizes.prod(axis=1), sizes])
        values = np.empty((ends[-1], images[0].shape[-1]), images[0].dtype)
        for (start, height, width), image in zip(table, images, strict=True):
            values[start : start + height * width] = image.reshape(height * width, -1)
        return cls(values, table, _grid(sizes, size), size)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices) -> "Patches":
        """Select patches by a slice or an array of indices; their images stay in memory."""
        return replace(self, places=self.places[indices])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), self.size, self.size, self.values.shape[-1])

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in memory: those of the images, and not those of the patches."""
        return self.values.nbytes

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        patches = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for patch, (index, top, left) in zip(patches, self.places, strict=True):
            image = self.image(index)[top : top + self.size, left : left + self.size]
            missing = [(0, self.size - length) for length in image.shape[:2]]
            patch[:] = np.pad(image, [*missing, (0, 0)], "reflect") if np.any(missing) else image
        return patches

    # ---- images ----

    @property
    def num_images(self) -> int:
        return len(self.table)

    def image(self, index: int) -> np.ndarray:
        """Return an image, complete: [H, W, C]."""
        start, height, width = self.table[index]
        return self.values[start : start + height * width].reshape(height, width, -1)

    def of_images(self, indices) -> "Patches":
        """Return all patches of the images at a slice, or at an array of indices, and only these."""
        chosen = np.arange(self.num_images)[indices]
        return Patches.of([self.image(index) for index in chosen], self.size)

    def is_aligned(self, other: "Patches") -> bool:
        """Return whether all images and places are the same; values and channels may differ."""
        return (
            self.size == other.size
            and np.array_equal(self.table, other.table)
            and np.array_equal(self.places, other.places)
        )


def _grid(sizes: np.ndarray, size: int) -> np.ndarray:
    """Return the places of the grids of patches in images of these sizes: [n, 3]."""

    def starts(length: int) -> np.ndarray:
        last = max(length - size, 0)
        return np.minimum(np.arange(-(-length // size)) * size, last)

    grids = []
    for index, (height, width) in enumerate(sizes):
        places = np.meshgrid(index, starts(height), starts(width), indexing="ij")
        grids.append(np.stack(places, axis=-1).reshape(-1, 3))
    return np.concatenate(grids).astype(np.int64)


def gatherer(*parts: Patches) -> Callable[..., list[tf.Tensor]]:
    """Return a function that gathers patches in a graph, at the same places from every part.

    The function takes the indices of patches, [B], and returns a tensor [B, P, P, C] for every part.
    With a `seed` it takes, instead of patch i of the grid, a patch at a uniformly random place of the
    same image. With `augment=True` this is also turned and flipped, in one of eight ways of equal
    probability. Places and turns of patch b of the batch are a function of the seed and b.

    Args:
        parts: patches that are aligned, for example the noisy and the clean images.
    """
    first = parts[0]
    with tf.device("CPU"):  # keep the images in host memory
        table, places = tf.constant(first.table), tf.constant(first.places)
        values = [tf.constant(part.values) for part in parts]

    def gather(indices: tf.Tensor, *, seed: tf.Tensor | None = None, augment: bool = False):
        index, top, left = tf.unstack(tf.gather(places, indices), axis=1)
        start, height, width = tf.unstack(tf.gather(table, index), axis=1)
        symmetry = tf.zeros_like(index)
        if seed is not None:
            # [B, 3], row by row, so that a patch does not depend on the size of its batch.
            draws = randomness.uniform([tf.size(index), 3], seed)
            top = _integers(draws[:, 0], tf.maximum(height - first.size, 0) + 1)
            left = _integers(draws[:, 1], tf.maximum(width - first.size, 0) + 1)
            if augment:
                symmetry = _integers(draws[:, 2], NUM_SYMMETRIES)
        rows = start[:, None] + width[:, None] * _lines(top, height, first.size, symmetry % 2)
        columns = _lines(left, width, first.size, symmetry // 2 % 2)
        pixels = rows[:, :, None] + columns[:, None, :]  # [B, P, P]
        is_transposed = (symmetry // 4)[:, None, None] == 1
        pixels = tf.where(is_transposed, tf.transpose(pixels, [0, 2, 1]), pixels)
        return [tf.gather(part, pixels) for part in values]

    return gather


def _integers(uniform: tf.Tensor, count) -> tf.Tensor:
    """Return integers from 0 to count - 1, in exact arithmetic, from uniform draws on [0, 1)."""
    return (tf.cast(uniform * 2.0**_RESOLUTION, tf.int64) * count) // 2**_RESOLUTION


def _lines(first: tf.Tensor, length: tf.Tensor, size: int, is_flipped: tf.Tensor) -> tf.Tensor:
    """Return the rows (or columns) of the image in each patch: [B, P], from 0 to length - 1."""
    forward = tf.range(size, dtype=tf.int64)[None]
    lines = first[:, None] + tf.where(is_flipped[:, None] == 1, size - 1 - forward, forward)
    # Beyond its end the image is reflected, so that it repeats after 2 (length - 1) lines.
    period = tf.maximum(2 * (length - 1), 1)[:, None]
    lines = lines % period
    return tf.minimum(lines, period - lines)
