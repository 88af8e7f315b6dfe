"""How to draw the figures of results: marks with error bars, and a style for each estimator."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.statistics import Mean

# Of statistics.ESTIMATORS.
STYLES: dict[str, dict] = {
    "annealed": {"fmt": "o-", "markersize": 5},
    "log_likelihood": {"fmt": "s:", "markersize": 4, "alpha": 0.6},
}


def plot(axes, places: Sequence[float], values: Sequence[Mean], **style) -> None:
    """Draw means with their standard errors; the error of a single seed is NaN and not drawn."""
    errors = [value.error for value in values]
    axes.errorbar(places, [value.value for value in values], errors, capsize=3, **style)


def signed(value: float, _: float) -> str:
    """Return the label of a tick on an axis of differences."""
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def legend_below(figure: Figure, axes, **style) -> None:
    """Put the legend of one panel below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, **style)
