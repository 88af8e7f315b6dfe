"""Figures: arrays in, a matplotlib Figure out. Nothing is shown and no global state is touched."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

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
        history: columns of history.csv, among them `epoch`.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    epochs = np.asarray(history["epoch"], float) + 1
    panels = (
        ("loss", "loss (nats per image)"),
        ("reconstruction", "E log p(x|z) (nats per image)"),
        ("kl", "KL(q(z|x~) || p(z)) (nats per image)"),
    )
    for axes, (key, label) in zip(figure.subplots(1, 3), panels, strict=True):
        marker = "." if len(epochs) == 1 else None
        for column, name in ((key, "training"), (f"val_{key}", "validation")):
            if column in history:
                axes.plot(epochs, np.asarray(history[column], float), label=name, marker=marker)
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
