"""Tiles give what the complete picture gives."""

from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import signal

from dvae_tf.kinds.image import tiles

RADIUS, MULTIPLE = 5, 4
KERNEL = np.random.default_rng(0).normal(size=(2 * RADIUS + 1, 2 * RADIUS + 1))


def network(window, origin=(0, 0)):
    """A strided network with a radius of 5 + 4 pixels, and zeros around what it sees.

    It convolves, adds the mean of the block of 4 x 4 pixels, and a number for the pixel's own place.
    """
    _, height, width, channels = window.shape
    assert (
        height % MULTIPLE == width % MULTIPLE == origin[0] % MULTIPLE == origin[1] % MULTIPLE == 0
    )
    result = np.empty((1, height, width, channels))
    for channel in range(channels):
        result[0, ..., channel] = signal.convolve2d(window[0, ..., channel], KERNEL, mode="same")
    blocks = result.reshape(height // MULTIPLE, MULTIPLE, width // MULTIPLE, MULTIPLE, channels)
    means = blocks.mean((1, 3), keepdims=True) + 0 * blocks
    row, column = np.mgrid[:height, :width]
    own = np.sin((row + origin[0]) * 1000.0 + column + origin[1])
    return result + means.reshape(result.shape) + own[None, ..., None]


OVERLAP = RADIUS + MULTIPLE - 1


def complete(image):
    whole = tiles.plan(*image.shape[:2], tile=None, overlap=OVERLAP, multiple=MULTIPLE)
    assert len(whole.tiles) == 1
    padded = tiles.pad(image, whole.padded)
    return network(padded[None])[:, : image.shape[0], : image.shape[1]]


def apply(image, tile):
    plan = tiles.plan(*image.shape[:2], tile=tile, overlap=OVERLAP, multiple=MULTIPLE)
    return plan, tiles.apply(network, image, plan)


LEAST = tiles.smallest(OVERLAP, MULTIPLE)
SIZES = [
    *[(1, 1), (3, 517), (37, 53), (1, 90), (LEAST, LEAST)],
    *[(LEAST - 1, LEAST + 1), (LEAST + 1, LEAST - 1), (63, 65), (65, 63), (64, 64), (130, 71)],
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", [LEAST, LEAST + 3, 64])
def test_tiled_equals_untiled(size, tile, rng):
    image = rng.normal(size=(*size, 2))
    plan, found = apply(image, tile)
    np.testing.assert_allclose(found, complete(image), rtol=0, atol=1e-10)
    sides = {(w.bottom - w.top, w.right - w.left) for w, _ in plan.tiles}
    assert len(sides) == 1 and max(*sides.pop()) <= tile
    assert len(plan.tiles) > 1 or max(size) <= tile


def test_less_overlap_is_seen(rng):
    image = rng.normal(size=(70, 70, 1))
    for overlap in (0, OVERLAP - MULTIPLE):
        plan = tiles.plan(70, 70, tile=LEAST, overlap=overlap, multiple=MULTIPLE)
        found = tiles.apply(network, image, plan)
        assert np.abs(found - complete(image)).max() > 1e-3


@hypothesis.given(
    size=st.tuples(st.integers(1, 99), st.integers(1, 99)),
    extra=st.integers(0, 60),
    overlap=st.integers(0, 20),
    multiple=st.sampled_from([1, 2, 3, 8]),
)
def test_plans(size, extra, overlap, multiple):
    """Every pixel once; aligned; the overlap on each side that is not the picture's."""
    tile = tiles.smallest(overlap, multiple) + extra
    plan = tiles.plan(*size, tile=tile, overlap=overlap, multiple=multiple)
    assert all(
        0 <= p - s < multiple and p % multiple == 0 for p, s in zip(plan.padded, size, strict=True)
    )
    covered = np.zeros(plan.padded, int)
    for window, output in plan.tiles:
        covered[output.slices] += 1
        assert all(edge % multiple == 0 for edge in window)
        assert window.bottom <= plan.padded[0] and window.right <= plan.padded[1]
        for edge in range(4):
            outer, border = window[edge], (0, 0, *plan.padded)[edge]
            assert outer == border or abs(output[edge] - outer) >= overlap
    assert (covered == 1).all()


class Pair(NamedTuple):
    mean: np.ndarray
    draws: np.ndarray


def test_nests_of_results_and_progress(rng):
    """Draws have an axis before the batch, and other channels."""
    image = rng.normal(size=(45, 70, 1)).astype(np.float32)
    plan = tiles.plan(45, 70, tile=32, overlap=8, multiple=4)

    def copies(window, origin):
        return np.stack([window, -window, 2 * window])[..., [0, 0]]

    for kind in (Pair, lambda *parts: parts, lambda a, b: {"mean": a, "draws": b}):
        done: list[int] = []
        found = tiles.apply(
            lambda window, origin, kind=kind: kind(window, copies(window, origin)),
            image,
            plan,
            report=done.append,
        )
        assert sum(done) == 45 * 70 and len(done) == len(plan.tiles)
        mean, draws = found.values() if isinstance(found, dict) else found
        np.testing.assert_array_equal(mean, image[None], strict=True)
        np.testing.assert_array_equal(draws, copies(image[None], None), strict=True)
        assert isinstance(found, Pair) == (kind is Pair)


def test_padding_reflects_and_small_pictures_are_reflected_again():
    image = np.arange(3.0).reshape(1, 3, 1)
    padded = tiles.pad(image, (4, 8))
    np.testing.assert_array_equal(padded[..., 0], [[0, 1, 2, 1, 0, 1, 2, 1]] * 4)


def test_choose():
    # 100 x 100 pixels fit; 96 is a multiple of 8.
    assert tiles.choose(10**6, 100, overlap=20, multiple=8) == 96
    assert tiles.choose(10, 100, overlap=20, multiple=8) == 56 == tiles.smallest(20, 8)
    assert tiles.choose(0, 100, overlap=0, multiple=1) == 1


def test_tiles_without_room_for_the_overlap_are_refused():
    with pytest.raises(ValueError, match=r"^`tile` must be at least 56 .* Received: 55. Choose 56"):
        tiles.plan(60, 10, tile=55, overlap=20, multiple=8)
    assert len(tiles.plan(56, 10, tile=56, overlap=20, multiple=8).tiles) == 1
    assert len(tiles.plan(40, 10, tile=40, overlap=20, multiple=8).tiles) == 1  # no room needed
