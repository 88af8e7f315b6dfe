"""Figures that show images: arrays in, a matplotlib Figure out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

_IMAGE_INCHES = 0.72


def _show(axes, image: np.ndarray, **kwargs) -> None:
    """Draw an image [H, W, C], clipped to [0, 1]; if C is not 3, its first channel in grey."""
    image = np.clip(image, 0.0, 1.0)
    pixels = image if image.shape[-1] == 3 else image[..., 0]
    axes.imshow(pixels, **({"cmap": "gray", "vmin": 0, "vmax": 1} | kwargs))


def _mosaic(images: np.ndarray, num_columns: int, *, gap: int, fill: float) -> np.ndarray:
    """Lay images [N, H, W, C] out in rows, `gap` pixels of value `fill` between them: [H', W', C]."""
    count, height, width, channels = images.shape
    rows = -(-count // num_columns)
    cells = np.full((rows * num_columns, height + gap, width + gap, channels), fill, np.float32)
    cells[:count, :height, :width] = images
    cells = cells.reshape(rows, num_columns, height + gap, width + gap, channels)
    mosaic = cells.swapaxes(1, 2).reshape(rows * (height + gap), -1, channels)
    return mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]


def image_grid(images: np.ndarray, *, title: str, num_columns: int = 10) -> Figure:
    """Show images [N, H, W, C] in rows of `num_columns`."""
    mosaic = _mosaic(images, min(num_columns, len(images)), gap=1, fill=1.0)
    aspect = mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(6.4, 6.4 * aspect + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    _show(axes, mosaic)
    return figure


def denoising_grid(
    clean: np.ndarray | None,
    noisy: np.ndarray,
    denoised: np.ndarray,
    *,
    title: str | None = None,
) -> Figure:
    """Show rows of images [N, H, W, C]: clean, corrupted and denoised; without clean ones two rows."""
    rows = {"noisy": noisy, "denoised": denoised}
    if clean is not None:
        rows = {"clean": clean, "corrupted": noisy, "denoised": denoised}
    count = len(noisy)
    aspect = noisy.shape[1] / noisy.shape[2]
    width = max(count * _IMAGE_INCHES, 5.0)
    height = len(rows) * width / count * aspect + (0.6 if title else 0.1)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    figure = Figure(figsize=(width, height), layout=layout)
    if title:
        figure.suptitle(title, fontsize=10)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes_row, (label, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            _show(axes, image)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(label, fontsize=9)
    return figure


def encoder_filters(weights: np.ndarray, *, num_filters: int = 100) -> Figure:
    """Show the first layer's weights, one image for each hidden unit.

    Args:
        weights: [H, W, C, units]. Channels are averaged.
        num_filters: how many units to show; the largest norms come first.
    """
    weights = weights.mean(axis=2)
    strongest = np.argsort(-np.linalg.norm(weights, axis=(0, 1)))[:num_filters]
    shown = weights[..., strongest]
    limit = float(np.quantile(np.abs(shown), 0.999)) or 1.0
    columns = min(20, len(strongest))
    # The gaps are NaN, which matplotlib leaves white.
    mosaic = _mosaic(np.moveaxis(shown, -1, 0)[..., np.newaxis], columns, gap=1, fill=np.nan)
    aspect = mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(10, 9 * aspect + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(
        f"First-layer weights of the encoder, the {len(strongest)} units of largest norm",
        fontsize=10,
    )
    picture = axes.imshow(mosaic[..., 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(picture, ax=axes, label="weight", fraction=0.03, pad=0.01)
    return figure


def latent_manifold(images: np.ndarray, latents: np.ndarray) -> Figure:
    """Show decoded two-dimensional latents as one picture.

    Args:
        images: [num^2, H, W, C], decoded from the latents.
        latents: [num^2, 2], from `figures.latent_grid`.
    """
    num = round(len(images) ** 0.5)
    height, width = images.shape[1:3]
    mosaic = _mosaic(images, num, gap=0, fill=0.0)
    figure = Figure(figsize=(6, 6 * height / width * 0.95 + 0.4), layout="constrained")
    axes = figure.subplots()
    _show(axes, mosaic)
    ticks = np.array([0, (num - 1) // 2, num - 1])
    quantiles = [f"{q:.2f}" for q in latents[:num, 0][ticks]]
    axes.set_xticks((ticks + 0.5) * width - 0.5, quantiles)
    axes.set_yticks((ticks + 0.5) * height - 0.5, quantiles[::-1])
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title="E[x|z] at equal quantiles of p(z)")
    return figure


def strips(images: np.ndarray, *, title: str, labels: Sequence[str] = ()) -> Figure:
    """Show sequences of images [N, steps, H, W, C], one in each row, from left to right."""
    steps, height = images.shape[1:3]
    mosaic = _mosaic(images.reshape(-1, *images.shape[2:]), steps, gap=1, fill=1.0)
    aspect = mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(6.4, 6.0 * aspect + 0.5), layout="constrained")
    axes = figure.subplots()
    _show(axes, mosaic)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks(np.arange(len(labels)) * (height + 1) + height / 2 - 0.5, labels, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def of_run(arrays: Mapping[str, Any], *, title: str) -> dict[str, Figure]:
    """Draw the figures of a finished run; see `Kind.run_figures`."""
    drawn = {
        "denoising": denoising_grid(
            arrays.get("clean"), arrays["noisy"], arrays["denoised"], title=title
        )
    }
    if "samples" in arrays:
        drawn["samples"] = image_grid(
            arrays["samples"],
            title=f"E[x|z] at {len(arrays['samples'])} latents drawn from the prior",
        )
    if "first_layer" in arrays:
        shape = arrays["noisy"].shape[1:]
        drawn["filters"] = encoder_filters(arrays["first_layer"].reshape(*shape, -1))
    if "manifold" in arrays:
        drawn["manifold"] = latent_manifold(arrays["manifold"], arrays["manifold_latents"])
    return drawn


def of_evaluation(arrays: Mapping[str, Any]) -> dict[str, Callable[[], Figure]]:
    """Return the images of an evaluation; see `Kind.evaluation_figures`."""
    names = ("random_input", "random_output", "attack_input", "attack_output")

    def traversal() -> Figure:
        low, high = arrays["traversal_values"][[0, -1]]
        return strips(
            arrays["traversal"],
            title=f"Latent units from {low:g} to {high:g}",
            labels=[f"unit {unit}" for unit in arrays["traversal_units"]],
        )

    drawings: dict[str, Callable[[], Figure]] = {
        "attack": lambda: strips(
            np.stack([arrays[name] for name in names]),
            title="Noise of one size",
            labels=["random", "denoised", "attack", "denoised"],
        ),
        "repeated": lambda: strips(arrays["repeated"], title="Repeated denoising"),
        "traversal": traversal,
        "samples": lambda: image_grid(arrays["samples"], title="Prior samples"),
    }
    if len(arrays["interpolation"]):
        drawings["interpolation"] = lambda: strips(arrays["interpolation"], title="Interpolation")
    return drawings
