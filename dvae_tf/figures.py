"""Figures: arrays in, a matplotlib Figure out. Nothing is shown and no global state is touched."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

_IMAGE_INCHES = 0.72


def to_png(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _show(axes, image: np.ndarray, **kwargs) -> None:
    """Draw an image [H, W, C] in [0, 1]; grey where C is not 3. Values outside are clipped."""
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
    clean: np.ndarray, noisy: np.ndarray, denoised: np.ndarray, *, title: str | None = None
) -> Figure:
    """Show three rows of images [N, H, W, C]: clean, corrupted and denoised."""
    rows = {"clean": clean, "corrupted": noisy, "denoised": denoised}
    count = len(clean)
    aspect = clean.shape[1] / clean.shape[2]
    width = max(count * _IMAGE_INCHES, 5.0)
    height = 3 * width / count * aspect + (0.6 if title else 0.1)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    figure = Figure(figsize=(width, height), layout=layout)
    if title:
        figure.suptitle(title, fontsize=10)
    grid = figure.subplots(3, count, squeeze=False)
    for axes_row, (label, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            _show(axes, image)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(label, fontsize=9)
    return figure


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Show bound, reconstruction and KL term against the epoch, for training and validation.

    Args:
        history: columns of history.csv, among them `epoch`; NaN where there was no validation.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    epochs = np.asarray(history["epoch"], float) + 1
    panels = (
        ("loss", "loss (nats per image)"),
        ("reconstruction", "E log p(x|z) (nats per image)"),
        ("kl", "KL(q(z|x~) || p(z)) (nats per image)"),
    )
    for axes, (key, label) in zip(figure.subplots(1, 3), panels, strict=True):
        for column, name in ((key, "training"), (f"val_{key}", "validation")):
            if column in history:
                values = np.asarray(history[column], float)
                known = ~np.isnan(values)
                marker = "." if known.sum() == 1 else None
                axes.plot(epochs[known], values[known], label=name, marker=marker)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        # The first epochs would flatten the rest of the curve.
        columns = [history[c] for c in (key, f"val_{key}") if c in history]
        late = np.asarray(columns, float)[:, len(epochs) // 20 :]
        late = late[np.isfinite(late)]
        if len(late) > 2 and np.ptp(late) > 0:
            margin = 0.05 * np.ptp(late)
            axes.set_ylim(late.min() - margin, late.max() + margin)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def encoder_filters(weights: np.ndarray, *, num_filters: int = 100) -> Figure:
    """Show the first layer's weights, one image for each hidden unit.

    Args:
        weights: [H, W, C, units]. Channels are averaged.
        num_filters: how many units to show, those of the largest norm first.
    """
    weights = weights.mean(axis=2)
    strongest = np.argsort(-np.linalg.norm(weights, axis=(0, 1)))[:num_filters]
    shown = weights[..., strongest]
    limit = float(np.quantile(np.abs(shown), 0.999)) or 1.0
    columns = min(20, len(strongest))
    # NaN, the gap, is drawn in white.
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


def latent_grid(num: int = 15) -> np.ndarray:
    """Return num**2 two-dimensional latents at equal quantiles of N(0, I), row by row: [num^2, 2].

    The first coordinate grows to the right, the second one upwards.
    """
    quantiles = scipy.stats.norm.ppf((np.arange(num) + 0.5) / num)
    second, first = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")
    return np.stack([first, second], axis=-1).reshape(-1, 2).astype(np.float32)


def latent_manifold(images: np.ndarray) -> Figure:
    """Show the decoded `latent_grid` as one picture.

    Args:
        images: [num^2, H, W, C], decoded from `latent_grid(num)`.
    """
    num = round(len(images) ** 0.5)
    height, width = images.shape[1:3]
    mosaic = _mosaic(images, num, gap=0, fill=0.0)
    figure = Figure(figsize=(6, 6 * height / width * 0.95 + 0.4), layout="constrained")
    axes = figure.subplots()
    _show(axes, mosaic)
    ticks = np.array([0, (num - 1) // 2, num - 1])
    quantiles = [f"{q:.2f}" for q in scipy.stats.norm.ppf((ticks + 0.5) / num)]
    axes.set_xticks((ticks + 0.5) * width - 0.5, quantiles)
    axes.set_yticks((ticks + 0.5) * height - 0.5, quantiles[::-1])
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title="E[x|z] at equal quantiles of p(z)")
    return figure


def strips(images: np.ndarray, *, title: str, labels: Sequence[str] = ()) -> Figure:
    """Show sequences of images [N, steps, H, W, C], one a row, from left to right."""
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


def curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence, Sequence, Sequence]]],
    *,
    xlabel: str,
    ylabel: str,
    num_columns: int = 3,
) -> Figure:
    """Show curves with error bars, one panel for each key.

    Args:
        panels: title -> label -> (x, mean, standard error).
        xlabel, ylabel: with their units.
        num_columns: panels in a row.
    """
    columns = min(num_columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.3 * columns + 0.3, 2.5 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for index, (axes, (title, lines)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        for number, (label, (x, mean, error)) in enumerate(lines.items()):
            axes.errorbar(
                x, mean, error, label=label, marker=".", color=f"C{number % 10}", capsize=2
            )
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if index % columns == 0:
            axes.set_ylabel(ylabel)
        if index + columns >= len(panels):
            axes.set_xlabel(xlabel)
    handles, names = grid.flat[0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(
            handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=8
        )
    return figure


def calibration(predicted: Sequence[float], actual: Sequence[float]) -> Figure:
    """Show actual against predicted error of pixels, with the line of perfect calibration."""
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.subplots()
    limit = 1.05 * max(*predicted, *actual, 1e-6)
    axes.plot([0, limit], [0, limit], color="grey", linewidth=1, label="perfect")
    axes.plot(predicted, actual, marker="o", label="pixels, in bins")
    axes.set(
        xlim=(0, limit),
        ylim=(0, limit),
        xlabel="predicted standard deviation (pixel scale)",
        ylabel="root mean squared error (pixel scale)",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def kl_bars(per_unit: np.ndarray) -> Figure:
    """Show the KL of each latent unit, largest first, in nats."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.bar(np.arange(1, len(per_unit) + 1), np.sort(per_unit)[::-1])
    axes.set(xlabel="latent unit, by rank", ylabel="KL (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, axis="y")
    return figure


def project(latents: np.ndarray, *others: np.ndarray) -> tuple[list[np.ndarray], str]:
    """Return latents [..., L] in two coordinates, and what these are.

    They are the first two principal components of `latents`, or the latents themselves for L = 2.
    """
    if latents.shape[-1] <= 2:
        padding = [(0, 0), (0, 2 - latents.shape[-1])]
        flat = [np.pad(a.reshape(-1, a.shape[-1]), padding) for a in (latents, *others)]
        name = "latent unit"
    else:
        centre = latents.mean(axis=0)
        axes = np.linalg.svd(latents - centre, full_matrices=False)[2][:2]
        flat = [(a.reshape(-1, a.shape[-1]) - centre) @ axes.T for a in (latents, *others)]
        name = "principal component"
    shapes = [a.shape[:-1] for a in (latents, *others)]
    return [f.reshape(*s, 2) for f, s in zip(flat, shapes, strict=True)], name


def latent_scatter(
    latents: np.ndarray, labels: np.ndarray | None = None, paths: np.ndarray | None = None
) -> Figure:
    """Show posterior means [N, L] in two coordinates, coloured by label, with paths over them.

    Args:
        latents: posterior means.
        labels: class of each, or None.
        paths: [P, steps, L], drawn from their first point (a ring) to their last (a dot).
    """
    others = [] if paths is None else [paths]
    (points, *drawn), name = project(latents, *others)
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    kwargs: dict[str, Any] = {"s": 6, "alpha": 0.6, "linewidths": 0}
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], color="C0", **kwargs)
    else:
        classes, numbers = np.unique(labels, return_inverse=True)
        scatter = axes.scatter(points[:, 0], points[:, 1], c=numbers, cmap="tab10", **kwargs)
        if len(classes) <= 10:
            handles = scatter.legend_elements()[0]
            figure.legend(handles, classes, title="label", loc="outside right center")
    for path in drawn[0] if drawn else []:
        axes.plot(*path.T, color="black", linewidth=1)
        axes.plot(*path[0], marker="o", color="black", markerfacecolor="white")
        axes.plot(*path[-1], marker="o", color="black")
    axes.set(xlabel=f"{name} 1", ylabel=f"{name} 2")
    axes.grid(alpha=0.3)
    return figure
