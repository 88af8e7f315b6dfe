"""The tables of docs/bounds.md and its figure."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.report import table
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
    """Draw log p, L_cvae, mixture bounds and L_dvae at growing noise."""
    content = read_json(results / "bounds" / "linear_gaussian.json", "levels")
    rows = content["levels"]
    sigma = [row["sigma"] for row in rows]
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    axes.plot(sigma, [row["log_p"] for row in rows], color="black", label="log p(x)")
    axes.plot(sigma, [row["l_cvae"] for row in rows], "o-", color="tab:blue", label="L_cvae")
    for name, colour in zip(_mixtures(rows[0]), ("0.35", "0.55", "0.72"), strict=True):
        label = f"mixture bound, M={name.split('_')[1]}"
        axes.plot(
            sigma, [row[name] for row in rows], "o--", color=colour, markersize=4, label=label
        )
    axes.plot(
        sigma, [row["l_dvae"] for row in rows], "o-", color="tab:orange", label="L_dvae (M=1)"
    )
    axes.set_xlabel("standard deviation of the corruption, sigma")
    axes.set_ylabel("nats per example")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
