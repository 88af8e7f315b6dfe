"""Estimates of the noise: from noisy images alone, from pairs, or from a calibration stack.

All estimates are lines variance(s) = gain (s - offset) + read_noise^2. Where the variance does not
depend on the signal, they are `Gaussian`. They are on the scale of the noisy images.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from dvae_tf.observations import flat_places, noise_line
from dvae_tf.observations.flat_places import Places
from dvae_tf.observations.noise_line import NoiseLine
from dvae_tf.observations.observation import Observation
from dvae_tf.observations.saturation import at_clipped_levels, saturated

# Small images are taken together until they have this many pixels.
_PIXELS_OF_A_GROUP = 2**16
# Below this number of pixels in all, four shifts of each image are used.
_FEW_PIXELS = 2**22
_MIN_PLACES = 200
# Energies of flat places, in units of the noise. The second only cuts off what noise never reaches.
_MAX_COARSE, _MAX_FINE = 1.1, 1.6
_NUM_LEVELS, _FLATTEST = 20, 0.05
_NUM_STEPS = 15
_MAX_SAMPLES = 20_000  # of a group, in the final line
_MAX_PIXELS = 2**21  # of all pairs


def from_images(images: Iterable[np.ndarray]) -> Observation:
    """Estimate the noise of noisy images alone.

    The noise must be independent from pixel to pixel, as it is before demosaicing and compression.
    The diagonal wavelet coefficients of the finest scale, d, have the variance of the noise where the
    image is flat. A place counts as flat if the other bands around it have no more energy than noise
    has; as orthonormal bands are independent in white noise, this choice does not bias d^2. The line
    through (local mean, d^2) maximises a normal likelihood with weights 1 / variance^2; squares above
    nine variances are clipped. Choice and line alternate. Intensities at which noise is clipped are
    left out, and places near missing pixels. As images may differ in gain, each is fitted by itself,
    and the result is the line nearest to all fits over the intensities of all images. Related: Foi et
    al. (2008), doi:10.1109/TIP.2008.2001399.

    With simulated noise on five photographs of about 400 x 500, gain and read noise had errors below
    5 % where both contribute, and mostly below 2 %; a standard deviation of 0.098 on 400 photographs
    had 0.8 %. Texture everywhere, such as grass, is taken for noise, and so is the noise that a
    "clean" photograph already has.

    Args:
        images: arrays [H, W] or [H, W, C] of any sizes and any scale; NaN is missing. Images with a
            side below 16 pixels are left out.

    Raises:
        ValueError: if the images are too small, constant, or clipped nearly everywhere.
    """
    planes = [plane for image in images for plane in _planes(image)]
    large = [plane for plane in planes if min(plane.shape) >= flat_places.MIN_SIDE]
    num_shifts = 2 if sum(plane.size for plane in large) < _FEW_PIXELS else 1
    parts = []
    information = 0.0  # on the slope
    for group in _groups(large):
        places = Places.join(flat_places.places_of(x, num_shifts=num_shifts) for x in group)
        line_and_flat = _line_of_flat_places(places)
        if line_and_flat is not None:
            line, flat = line_and_flat
            error = noise_line.standard_error(line, flat.mean, np.square(flat.detail))
            # Neighbouring coefficients of shifted transforms are dependent.
            information += error**-2 / num_shifts
            signal = _thinned(places.mean, _MAX_SAMPLES)
            parts.append((signal, line.variance(signal)))
    if not parts:
        raise ValueError(
            "The noise must be estimated from images of at least 16 x 16 pixels with flat, unclipped "
            f"places and some noise. Received: {len(planes)} images (channels counted singly) without "
            "enough of them. Give more or larger images, or the observation's parameters."
        )
    signal, variance = (np.concatenate([part[i] for part in parts]) for i in range(2))
    common = NoiseLine(0.0, float(np.median(variance)))
    for _ in range(_NUM_STEPS):
        common = noise_line.step(common, signal, variance)
    return common.as_observation(signal, information**-0.5 if information > 0 else math.inf)


def _planes(image: np.ndarray) -> list[np.ndarray]:
    image = np.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(
            "`images` must be arrays [height, width] or [height, width, channels]. "
            f"Received: an array of shape {image.shape}. Give a list of single images."
        )
    image = image.astype(np.float64)
    return [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[-1])]


def _groups(planes: Sequence[np.ndarray]) -> Iterable[list[np.ndarray]]:
    group: list[np.ndarray] = []
    rest = sum(plane.size for plane in planes)
    for plane in planes:
        group.append(plane)
        rest -= plane.size
        # What is left over joins the last group.
        if sum(x.size for x in group) >= _PIXELS_OF_A_GROUP and rest >= _PIXELS_OF_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def _line_of_flat_places(places: Places) -> tuple[NoiseLine, Places] | None:
    """Return the line of a group of images and its flat places, or None if there are too few."""
    if len(places) < _MIN_PLACES:
        return None
    # The flattest places of each intensity count as flat: in busy images no others may be left.
    energy = np.maximum(places.fine, places.coarse)
    is_flattest = np.zeros(len(places), bool)
    for level in np.array_split(np.argsort(places.mean), _NUM_LEVELS):
        is_flattest[level] = energy[level] <= np.quantile(energy[level], _FLATTEST)
    flat = places[is_flattest]
    square = np.square(flat.detail)
    line = NoiseLine(0.0, float(np.median(square)) / 0.4549)  # the median of eps^2
    if not _is_noise(square, places.mean):
        return None
    for _ in range(2 * _NUM_STEPS):
        line = noise_line.robust_step(line, flat.mean, square, 1.0)
    for _ in range(_NUM_STEPS):
        variance = line.variance(places.mean)
        is_flat = (places.coarse <= _MAX_COARSE * variance) & (places.fine <= _MAX_FINE * variance)
        flat = places[is_flat | is_flattest]
        next_line = noise_line.robust_step(line, flat.mean, np.square(flat.detail))
        # Half steps, because the choice of places answers to the line.
        line = NoiseLine(
            (line.slope + next_line.slope) / 2, (line.intercept + next_line.intercept) / 2
        )
    return line, flat


def _is_noise(square: np.ndarray, signal: np.ndarray) -> bool:
    """Return whether squared residuals are more than rounding."""
    return bool(np.mean(square) > 1e-12 * np.mean(np.square(signal)))


def _thinned(x: np.ndarray, most: int) -> np.ndarray:
    return x[:: max(1, len(x) // most)]


def from_pairs(noisy: Iterable[np.ndarray], clean: Iterable[np.ndarray]) -> Observation:
    """Estimate the noise of images whose clean versions are known.

    The signal of a pair is s = p clean + q, with p and q by least squares, as clean images may have
    another scale. The line maximises the likelihood of y ~ N(s, gain s + intercept). Missing pixels
    are left out, and intensities at which pixels are clipped.

    Args:
        noisy: arrays of any shapes.
        clean: their partners, of the same shapes.

    Raises:
        ValueError: if there are no pairs, shapes differ, or nearly all pixels are clipped or missing.
    """
    parts = []
    for y, x in zip(noisy, clean, strict=True):
        y, x = np.asarray(y), np.asarray(x)
        if y.shape != x.shape:
            raise ValueError(
                "`noisy` and `clean` must hold pairs of one shape. "
                f"Received: shapes {y.shape} and {x.shape}. Match images by name."
            )
        is_clipped = at_clipped_levels(x, saturated(y) | saturated(x))
        is_seen = ~(is_clipped | np.isnan(y) | np.isnan(x))
        y, x = y[is_seen].astype(np.float64), x[is_seen].astype(np.float64)
        if len(y) > 2 and np.ptp(x) > 0:
            scale, shift = np.polyfit(x, y, 1)
            parts.append((scale * x + shift, np.square(y - (scale * x + shift))))
    signal, square = (np.concatenate([[], *(part[i] for part in parts)]) for i in range(2))
    signal, square = _thinned(signal, _MAX_PIXELS), _thinned(square, _MAX_PIXELS)
    if len(signal) < _MIN_PLACES or not _is_noise(square, signal):
        raise ValueError(
            f"The noise must be estimated from at least {_MIN_PLACES} pixels that are noisy and "
            f"neither clipped nor missing. Received: {len(signal)} usable pixels. Give more pairs, or "
            "the observation's parameters."
        )
    return _of_line(signal, square)


def from_stack(stack: np.ndarray) -> Observation:
    """Estimate the noise of a camera from frames of one scene that does not move.

    This is a photon-transfer curve without bins. Frames are split in two halves, A and B. The
    variance and the mean of each pixel over B follow the line. The instrument is the mean over B as
    predicted from that over A, so that noise of the mean does not flatten the slope. Then A and B
    change places.
    Missing pixels are left out, and intensities at which pixels are clipped.

    Args:
        stack: [N, ...], at least four frames on any scale.

    Raises:
        ValueError: if there are fewer frames, or too few usable pixels.
    """
    stack = np.asarray(stack)
    if stack.ndim < 2 or len(stack) < 4:
        raise ValueError(
            "`stack` must hold at least four frames of one scene, [N, height, width]. "
            f"Received: an array of shape {stack.shape}. Record more frames."
        )
    stack = stack.reshape(len(stack), -1)
    is_missing = np.isnan(stack).any(axis=0)
    frames = stack[:, ~is_missing].astype(np.float64)  # [N, pixels]
    share = saturated(frames).mean(axis=0)
    halves = frames[::2], frames[1::2]
    means = [half.mean(axis=0) for half in halves]
    variances = [half.var(axis=0, ddof=1) for half in halves]
    kept = [~at_clipped_levels(mean, share) for mean in means[::-1]]
    signal, square, instrument = (
        np.concatenate([half[chosen] for half, chosen in zip(x, kept, strict=True)])
        for x in (means, variances, _predicted(means, means[::-1]))
    )
    if len(signal) < 2 * _MIN_PLACES or not _is_noise(square, signal):
        raise ValueError(
            f"The noise must be estimated from at least {_MIN_PLACES} pixels that are noisy and "
            f"neither clipped nor missing. Received: {len(signal) // 2} usable pixels. Record frames "
            "with a shorter exposure."
        )
    return _of_line(signal, square, instrument=instrument)


def _of_line(
    signal: np.ndarray, square: np.ndarray, *, instrument: np.ndarray | None = None
) -> Observation:
    """Return the observation whose line goes through the squared residuals at these signals."""
    line = NoiseLine(0.0, float(np.mean(square)))
    for _ in range(2 * _NUM_STEPS):
        line = noise_line.step(line, signal, square, instrument=instrument)
    error = noise_line.standard_error(line, signal, square, instrument=instrument)
    return line.as_observation(signal, error)


def _predicted(targets: Sequence[np.ndarray], sources: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the best linear prediction of each target from its source."""
    predictions = []
    for target, source in zip(targets, sources, strict=True):
        centred = source - source.mean()
        power = centred @ centred
        slope = centred @ target / power if power > 0 else 0.0
        predictions.append(target.mean() + slope * centred)
    return predictions
