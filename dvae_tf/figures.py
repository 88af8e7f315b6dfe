"""Figures: arrays in, a matplotlib Figure out, without windows and without global state."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def to_png(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def learning_curves(history: Mapping[str, Sequence[float]], *, noun: str = "example") -> Figure:
    """Show bound, reconstruction and KL term against the epoch, for training and validation.

    Args:
        history: columns of history.csv, including `epoch`; NaN in epochs without validation.
        noun: word for one example, in the units.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    epochs = np.asarray(history["epoch"], float) + 1
    panels = (
        ("loss", f"loss (nats per {noun})"),
        ("reconstruction", f"E log p(x|z) (nats per {noun})"),
        ("kl", f"KL(q(z|x~) || p(z)) (nats per {noun})"),
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
        # Scale the axis to the later epochs; the first ones would flatten the rest of the curve.
        columns = [history[c] for c in (key, f"val_{key}") if c in history]
        late = np.asarray(columns, float)[:, len(epochs) // 20 :]
        late = late[np.isfinite(late)]
        if len(late) > 2 and np.ptp(late) > 0:
            margin = 0.05 * np.ptp(late)
            axes.set_ylim(late.min() - margin, late.max() + margin)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def latent_grid(quantile: Callable[[np.ndarray], np.ndarray], num: int = 15) -> np.ndarray:
    """Return two-dimensional latents on a grid of equally spaced quantiles, row by row: [num^2, 2].

    The first coordinate grows to the right, the second one upwards.

    Args:
        quantile: quantile function of one unit under the prior (see `Prior.quantile`).
        num: rows and columns of the grid.
    """
    quantiles = quantile((np.arange(num) + 0.5) / num)
    second, first = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")
    return np.stack([first, second], axis=-1).reshape(-1, 2).astype(np.float32)


def curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence, Sequence, Sequence]]],
    *,
    xlabel: str,
    ylabel: str,
    num_columns: int = 3,
) -> Figure:
    """Show curves with error bars, one panel for each key.

    Args:
        panels: title of the panel -> label of the curve -> (x, mean, standard error).
        xlabel, ylabel: labels of the axes, with units.
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
    """Show the actual error of values against the predicted one, with the line of equality."""
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.subplots()
    limit = 1.05 * max(*predicted, *actual, 1e-6)
    axes.plot([0, limit], [0, limit], color="grey", linewidth=1, label="perfect")
    axes.plot(predicted, actual, marker="o", label="values, in bins")
    axes.set(
        xlim=(0, limit),
        ylim=(0, limit),
        xlabel="predicted standard deviation of a value",
        ylabel="root mean squared error",
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
    """Project latents [..., L] to two coordinates, and return them with the coordinates' name.

    The coordinates are the first two principal components of `latents`, or for L <= 2 the latent
    units themselves. `others` are projected like `latents`.
    """
    if latents.shape[-1] <= 2:
        padding = [(0, 0), (0, 2 - latents.shape[-1])]
        flat = [np.pad(a.reshape(-1, a.shape[-1]), padding) for a in (latents, *others)]
        name = "latent unit"
    else:
        centre = latents.mean(axis=0)
        # A single point has no principal components: the full matrix gives two axes all the same.
        axes = np.linalg.svd(latents - centre, full_matrices=len(latents) < 2)[2][:2]
        flat = [(a.reshape(-1, a.shape[-1]) - centre) @ axes.T for a in (latents, *others)]
        name = "principal component"
    shapes = [a.shape[:-1] for a in (latents, *others)]
    return [f.reshape(*s, 2) for f, s in zip(flat, shapes, strict=True)], name


def latent_scatter(
    latents: np.ndarray, labels: np.ndarray | None = None, paths: np.ndarray | None = None
) -> Figure:
    """Show posterior means [N, L] in two coordinates, coloured by label, with paths over them.

    Args:
        latents: posterior means, [N, L].
        labels: classes, [N], or None.
        paths: paths of latents, [P, steps, L]; a ring marks the start, and a dot the end.
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
