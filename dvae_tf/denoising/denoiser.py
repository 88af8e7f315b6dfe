"""A model's answer for a picture of any size, type and number of pages."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from dvae_tf import counts
from dvae_tf.denoising import memory
from dvae_tf.kinds.image import tiles
from dvae_tf.kinds.image.picture import Header, Picture
from dvae_tf.kinds.image.scale import Scale

_MOST_BYTES = 2**30  # larger tiles are hardly faster
_MOST_PIXELS = 1024  # side of a tile
_PROBE = 256  # side of the window whose memory is measured
_UNKNOWN = 64 * 1024  # bytes a pixel where it cannot be measured
_LEAST = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is computed of each picture.

    Attributes:
        num_samples: S, posterior draws that the mean and the standard deviation come from.
        stddev: whether the standard deviation is wanted.
        num_draws: number of single posterior draws that are wanted.
        seed: seed of the draws, the same for each picture and page.

    Raises:
        TypeError, ValueError: if a number is not an integer, or too small.
    """

    num_samples: int = 16
    stddev: bool = False
    num_draws: int = 0
    seed: int = 0

    def __post_init__(self):
        counts.check("num_samples", self.num_samples, 1)
        counts.check("num_draws", self.num_draws, 0)
        counts.check("seed", self.seed, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What the model says of a picture; pages in the picture's own units.

    Attributes:
        mean: the picture with the mean of the draws.
        stddev: float32 [P, H, W, C], or None if it is not wanted.
        draws: the picture with each of the single draws.
        unseen: number of values that were not finite; they stay as they are.
    """

    mean: Picture
    stddev: np.ndarray | None
    draws: list[Picture]
    unseen: int


class Denoiser:
    """Applies a model to pictures.

    A network of any size sees large pictures in tiles; the result is the same, because its random
    numbers depend on the place of a pixel. A model of one channel is applied to each channel alone.

    Args:
        model: a `DVAE` of images. A network of any size has `encoder.receptive_field`, the radius
            in pixels, and `encoder.multiple`, and its `denoise` and `draws` take `origin`.
        settings: what to compute.
        scale: the scale of stored values; None takes that of each picture's type.
        tile: side of the tiles; None chooses it from the memory.

    Raises:
        ValueError: if `tile` is given for a model of one size, or is too small.
    """

    def __init__(
        self, model: Any, settings: Settings, *, scale: Scale | None = None, tile: int | None = None
    ):
        self.settings = settings
        self._model, self._scale, self._tile = model, scale, tile
        _, self._height, self._width, self._channels = model.encoder.input_shape
        self._is_free = self._height is None
        if self._is_free:
            self._grid = {
                "overlap": int(model.encoder.receptive_field),
                "multiple": int(model.encoder.multiple),
            }
        if tile is None:
            return
        if not self._is_free:
            raise ValueError(
                f"`tile` must not be given for a model of one size, {self._height} x {self._width}. "
                f"Received: {tile}. Leave it out."
            )
        least = tiles.smallest(**self._grid)
        if tile < least:
            raise ValueError(
                f"`tile` must be at least {least} for this model. Received: {tile}. Choose "
                f"{least} or more."
            )

    def check(self, header: Header) -> str:
        """Return a remark on a picture that the model can take; empty words if there is none.

        Raises:
            ValueError: if the model cannot take it: the size, the channels, or the scale.
        """
        _, height, width, channels = header.shape
        if not self._is_free and (height, width) != (self._height, self._width):
            raise ValueError(
                f"must be {self._height} x {self._width} pixels, as the model's images were. "
                f"Received: {height} x {width}. Resize it, or train a network of any size."
            )
        if channels != self._channels and self._channels != 1:
            remedy = (
                "Convert it to RGB" if self._channels == 3 else f"Give it {self._channels} channels"
            )
            raise ValueError(
                f"must have {self._channels} channels, as the model's images had. "
                f"Received: {channels}. {remedy}, or train on such images."
            )
        if self._scale is None:
            Scale.of(header.dtype)
        if channels != self._channels:
            return f"the model knows one channel: each of the {channels} is denoised alone"
        return ""

    def times(self, header: Header) -> int:
        """Return how often the model sees each pixel of a picture: once, or once a channel."""
        return header.shape[-1] if self._channels == 1 else 1

    def prepare(self, largest: int) -> None:
        """Choose the side of tiles, before pictures of up to so many pixels are denoised.

        The memory of a window is measured once, after a smaller one has built the graph.
        """
        if not self._is_free or self._tile is not None:
            return
        side = max(tiles.smallest(**self._grid), _PROBE)
        side = -(-side // self._grid["multiple"]) * self._grid["multiple"]
        if largest <= side**2:
            self._tile = side
            return

        def probe(length: int) -> None:
            self._answer(np.zeros((1, length, length, self._channels), np.float32), (0, 0))

        probe(self._grid["multiple"])
        measured = memory.growth(lambda: probe(side))
        bytes_per_pixel = _UNKNOWN if measured is None else max(measured / side**2, _LEAST)
        most = min(memory.available() // 2, _MOST_BYTES)
        chosen = tiles.choose(most, bytes_per_pixel, **self._grid)
        self._tile = min(chosen, max(_MOST_PIXELS, side))

    def __call__(
        self, picture: Picture, *, report: Callable[[int], None] = lambda pixels: None
    ) -> Answer:
        """Denoise a picture.

        Args:
            picture: a picture that `check` accepts.
            report: called with the number of pixels that are done, repeatedly.

        Raises:
            ValueError: if a page has no finite value.
        """
        pages, dtype = picture.pages, picture.pages.dtype
        scale = self._scale or Scale.of(dtype)
        means, stddevs = np.empty_like(pages), None
        if self.settings.stddev:
            stddevs = np.empty(pages.shape, np.float32)
        draws = [np.empty_like(pages) for _ in range(self.settings.num_draws)]
        unseen = 0
        for index, page in enumerate(pages):
            is_seen = np.isfinite(page)
            unseen += page.size - np.count_nonzero(is_seen)
            answer = self._page(_filled(scale.to_unit(page), is_seen), report)
            results = [(means, answer["mean"][0])]
            results += zip(draws, answer.get("draws", np.empty((0, 1)))[:, 0], strict=True)
            for target, values in results:
                stored = scale.from_unit(values, dtype)
                target[index] = np.where(is_seen, stored, page)
            if stddevs is not None:
                spread = answer["stddev"][0] * np.float32(scale.high - scale.low)
                stddevs[index] = np.where(is_seen, spread, np.nan)
        return Answer(
            picture.with_pages(means), stddevs, [picture.with_pages(each) for each in draws], unseen
        )

    def _page(self, page: np.ndarray, report: Callable[[int], None]) -> dict[str, np.ndarray]:
        """Denoise a page [H, W, C] on the model's scale: arrays [..., 1, H, W, C]."""
        height, width, channels = page.shape
        if channels != self._channels:
            parts = [self._page(page[..., c : c + 1], report) for c in range(channels)]
            return {name: np.concatenate([p[name] for p in parts], -1) for name in parts[0]}
        if not self._is_free:
            answer = self._answer(page[None], None)
            report(height * width)
            return answer
        if self._tile is None:
            self.prepare(height * width)
        plan = tiles.plan(height, width, tile=self._tile, **self._grid)
        return tiles.apply(self._answer, page, plan, report=report)

    def _answer(self, window: np.ndarray, origin: tuple[int, int] | None) -> dict[str, np.ndarray]:
        """Return what is wanted of a window [1, h, w, C]; `origin` is None for a complete picture."""
        settings = self.settings
        options: dict[str, Any] = {"seed": settings.seed}
        if origin is not None:
            options["origin"] = origin
        denoised = self._model.denoise(window, num_samples=settings.num_samples, **options)
        answer = {"mean": np.asarray(denoised[0])}
        if settings.stddev:
            answer["stddev"] = np.asarray(denoised[1])
        if settings.num_draws:
            answer["draws"] = np.asarray(self._model.draws(window, settings.num_draws, **options))
        return answer


def _filled(values: np.ndarray, is_seen: np.ndarray) -> np.ndarray:
    """Replace what is not finite in a page [H, W, C] by the nearest value of the same channel.

    Raises:
        ValueError: if a channel has no finite value.
    """
    if is_seen.all():
        return values
    values = values.copy()
    for channel in range(values.shape[-1]):
        seen = is_seen[..., channel]
        if not seen.any():
            raise ValueError("must have finite values. Received: a page of NaN. Remove it.")
        nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
        values[..., channel] = values[(*nearest, channel)]
    return values
