"""The tables of docs/bounds.md and its figure."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import drawing
from experiments.markdown import table
from experiments.statistics import read_json


def _mixtures(row: dict) -> list[str]:
    """Return the keys of the mixture bounds of a row of the linear-Gaussian model, largest M first."""
    return [key for key in row if key.startswith("mixture_") and "error" not in key][::-1]


def tables(results: Path) -> dict[str, list[str]]:
    """Return the tables of docs/bounds.md by name."""
    found = {}
    path = results / "bounds" / "linear_gaussian.json"
    if path.exists():
        content = read_json(path, "levels")
        mixtures = _mixtures(content["levels"][0])
        found["linear-gaussian"] = table(
            ("sigma", "log p", "L_cvae", *(f"M={m.split('_')[1]}" for m in mixtures),
             "L_dvae", "L_cvae - L_dvae", "I(x~; z \\| x)"),
            *(
                (row["sigma"], f"{row['log_p']:.3f}", f"{row['l_cvae']:.3f}",
                 *(f"{row[m]:.3f} ± {row[m + '_error']:.3f}" for m in mixtures),
                 f"{row['l_dvae']:.3f}", f"{row['l_cvae'] - row['l_dvae']:.3f}",
                 f"{row['mutual_information']:.3f}")
                for row in content["levels"]
            ),
        )  # fmt: skip
    path = results / "bounds" / "mnist.json"
    if path.exists():
        content = read_json(path, "mixtures")

        def text(value: dict) -> str:
            return f"{value['mean']:.2f} ± {value['standard_error']:.2f}"

        found["mnist"] = table(
            ("M", "mixture bound", "above M=1", "below log p(x)"),
            *(
                (row["m"], text(row["bound"]), "" if row["m"] == 1 else text(row["above_m_1"]),
                 text(row["below_log_likelihood"]))
                for row in content["mixtures"]
            ),
        )  # fmt: skip
    return found


def draw(results: Path) -> Figure:
    """Draw log p, L_cvae, mixture bounds and L_dvae at growing noise, and close to none."""
    content = read_json(results / "bounds" / "linear_gaussian.json", "levels")
    rows = content["levels"]
    sigma = [row["sigma"] for row in rows]
    lines: dict[str, tuple[str, dict]] = {"log_p": ("log p(x)", {"fmt": "-", "color": "black"})}
    lines["l_cvae"] = ("$L_{cvae}$", {"fmt": "o-", "color": "tab:blue"})
    for name, colour in zip(_mixtures(rows[0]), ("0.35", "0.55", "0.72"), strict=True):
        label = f"mixture bound, M={name.split('_')[1]}"
        lines[name] = (label, {"fmt": "o--", "color": colour, "markersize": 4})
    lines["l_dvae"] = ("$L_{dvae}$ (M=1)", {"fmt": "o-", "color": "tab:orange"})
    figure, (whole, near_zero) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    without_noise = rows[0]["l_dvae"]
    for name, (label, style) in lines.items():
        values = np.array([row[name] for row in rows])
        whole.errorbar(sigma, values, label=label, **style)
        near_zero.errorbar(sigma, values - without_noise, **style)
    whole.set_ylabel("nats per example")
    near_zero.axhline(0, color="0.6", linewidth=1, zorder=0)
    near_zero.set_xlim(-0.01, 0.35)
    near_zero.set_xticks([x for x in sigma if x < 0.35])
    near_zero.set_ylim(-0.05, 0.01)
    near_zero.set_ylabel("beyond the bound without noise, nats")
    near_zero.yaxis.set_major_formatter(drawing.signed)
    for axes in (whole, near_zero):
        axes.set_xlabel(r"standard deviation $\sigma$ of the corruption")
        axes.spines[["top", "right"]].set_visible(False)
    whole.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93))
    return figure
