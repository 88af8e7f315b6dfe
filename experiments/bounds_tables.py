"""The tables of docs/bounds.md and its figure."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments import archive, drawing
from experiments.markdown import table


def _linear_gaussian(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return exact quantities by sigma, and mixture bounds by sigma, statistic and falling M."""
    found = archive.read_bounds(results)
    found = found[found["model"] == "linear_gaussian"]
    if found.empty:
        return found, found
    is_mixture = found["quantity"] == "mixture"
    exact = found[~is_mixture].pivot(index="sigma", columns="quantity", values="mean")
    mixtures = (
        found[is_mixture]
        .astype({"num_corruptions": int})
        .pivot(index="sigma", columns="num_corruptions", values=["mean", "standard_error"])
    )
    return exact, mixtures.sort_index(axis=1, ascending=False)


def tables(results: Path) -> dict[str, list[str]]:
    """Return the tables of docs/bounds.md by name."""
    found = {}
    exact, mixtures = _linear_gaussian(results)
    if not exact.empty:
        means, errors = mixtures["mean"], mixtures["standard_error"]
        found["linear-gaussian"] = table(
            ("sigma", "log p", "L_cvae", *(f"M={m}" for m in means),
             "L_dvae", "L_cvae - L_dvae", "I(x~; z \\| x)"),
            *(
                (sigma, f"{row['log_p']:.3f}", f"{row['l_cvae']:.3f}",
                 *(f"{means.loc[sigma, m]:.3f} ± {errors.loc[sigma, m]:.3f}" for m in means),
                 f"{row['l_dvae']:.3f}", f"{row['l_cvae'] - row['l_dvae']:.3f}",
                 f"{row['mutual_information']:.3f}")
                for sigma, row in exact.iterrows()
            ),
        )  # fmt: skip
    of_mnist = archive.read_bounds(results).query("model == 'mnist' and num_corruptions > 0")
    if not of_mnist.empty:
        text = of_mnist.apply(
            lambda row: "{mean:.2f} ± {standard_error:.2f}".format_map(row), axis=1
        )
        rows = of_mnist.assign(text=text).astype({"num_corruptions": int})
        rows = rows.pivot(index="num_corruptions", columns="quantity", values="text")
        found["mnist"] = table(
            ("M", "mixture bound", "above M=1", "below log p(x)"),
            *(
                (m, row["mixture"], "" if m == 1 else row["above_m_1"], row["below_log_likelihood"])
                for m, row in rows.iterrows()
            ),
        )
    return found


def draw(results: Path) -> Figure | None:
    """Draw log p, L_cvae, mixture bounds and L_dvae against noise, and enlarged near zero noise."""
    exact, mixtures = _linear_gaussian(results)
    if exact.empty:
        return None
    lines: list[tuple[pd.Series, str, dict]] = [
        (exact["log_p"], "log p(x)", {"fmt": "-", "color": "black"}),
        (exact["l_cvae"], "$L_{cvae}$", {"fmt": "o-", "color": "tab:blue"}),
    ]
    for m, colour in zip(mixtures["mean"], ("0.35", "0.55", "0.72"), strict=True):
        style = {"fmt": "o--", "color": colour, "markersize": 4}
        lines.append((mixtures["mean", m], f"mixture bound, M={m}", style))
    lines.append((exact["l_dvae"], "$L_{dvae}$ (M=1)", {"fmt": "o-", "color": "tab:orange"}))
    figure, (whole, near_zero) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for values, label, style in lines:
        whole.errorbar(exact.index, values, label=label, **style)
        near_zero.errorbar(exact.index, values - exact["l_dvae"].iloc[0], **style)
    whole.set_ylabel("nats per example")
    near_zero.axhline(0, color="0.6", linewidth=1, zorder=0)
    near_zero.set_xlim(-0.01, 0.35)
    near_zero.set_xticks([sigma for sigma in exact.index if sigma < 0.35])
    near_zero.set_ylim(-0.05, 0.01)
    near_zero.set_ylabel("minus the bound without noise, nats")
    near_zero.yaxis.set_major_formatter(drawing.signed)
    for axes in (whole, near_zero):
        axes.set_xlabel(r"standard deviation $\sigma$ of the corruption")
        axes.spines[["top", "right"]].set_visible(False)
    whole.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93))
    return figure
