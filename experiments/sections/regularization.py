"""Where corruption helps the likelihood, and where it does not."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import drawing
from experiments.markdown import table
from experiments.statistics import (
    ESTIMATORS,
    Mean,
    difference_annealed,
    effective_sizes,
    in_common,
    level_of,
    marked,
    of_cell,
    over_seeds,
    range_of,
    verdict,
)

WEIGHTS = {
    "best": "the best weights by validation bound",
    "last": "the weights after the last epoch",
}
POSTERIORS = ("conditional", "mixture")
# Keys: binarisation, number of training images, level of noise in percent.
Study = dict[tuple[str, int, float], pd.DataFrame]


def study_of(cells: pd.DataFrame) -> Study:
    """Return the cells of the study of levels, without those of other posteriors."""
    study = {}
    for name, rows in cells.groupby("cell"):
        if not name.endswith(POSTERIORS):
            binarize, count, _ = name.split("-")
            study[binarize, int(count), level_of(name)] = rows
    return study


def _levels(study: Study) -> list[float]:
    """Return the levels of noise, without 0."""
    return sorted({level for *_, level in study if level})


def beyond_vae(study: Study, estimator: str, of: str) -> dict[tuple[str, int, float], Mean]:
    """Return what noise adds to log p(x), for each cell whose VAE was measured."""
    return {
        (binarize, count, level): ESTIMATORS[estimator].difference(rows, base, of=of)
        for (binarize, count, level), rows in study.items()
        if level and (base := study.get((binarize, count, 0.0))) is not None
    }


def _table_of_levels(study: Study, estimator: str, of: str) -> list[str]:
    """Return a table of what each level of noise adds, below a count of significant differences."""
    levels = _levels(study)
    differences = beyond_vae(study, estimator, of)
    rows: list[tuple] = [
        ("binarisation", "training images", "epochs", "validations", "VAE",
         *(f"noise {level:g} %" for level in levels), "seeds")
    ]  # fmt: skip
    verdicts = []
    for binarize in ("static", "dynamic"):
        found: list[Mean] = []
        for count in sorted({key[1] for key in study}):
            base = study.get((binarize, count, 0.0))
            if base is None:
                continue
            keys = [(binarize, count, level) for level in levels]
            beyond = {key[2]: differences[key] for key in keys if key in differences}
            found += beyond.values()
            one = base.iloc[0]
            epochs, every = one["epochs"], one["configuration.validate_every"]
            rows.append(
                (binarize, f"{count:,}", f"{epochs:,}", -(-epochs // every),
                 over_seeds(base, estimator, of=of),
                 *(marked(beyond[x]) if x in beyond else "" for x in levels),
                 min((value.num_seeds for value in beyond.values()), default=base["seed"].nunique()))
            )  # fmt: skip
        if found:
            verdicts.append(f" {binarize.capitalize()} binarisation: noise is {verdict(found)}.")
    return [f"{WEIGHTS[of].capitalize()}.{''.join(verdicts)}", "", *table(*rows)]


def posteriors_of(cells: pd.DataFrame, binarize: str) -> dict[str, pd.DataFrame]:
    """Return VAE, M=1, and M=5 without and with the mixture, for the seeds that all have."""
    names = ("0", "15", *(f"15_{posterior}" for posterior in POSTERIORS))
    found = [of_cell(cells, f"{binarize}-1000-{name}") for name in names]
    return dict(zip(("VAE", "M=1", "conditional", "mixture"), in_common(*found), strict=True))


def _table_of_posteriors(cells: pd.DataFrame) -> list[str]:
    """Return a table of the mixture bound, beside the same number of corruptions without it."""
    lines: list[tuple] = [
        ("binarisation", "weights", "VAE", "M=1", "M=5, conditional", "M=5, mixture", "conditional minus M=1",
         "mixture minus M=1", "mixture minus conditional", "seeds")
    ]  # fmt: skip
    for binarize in ("static", "dynamic"):
        found = posteriors_of(cells, binarize)
        if found["VAE"].empty:
            continue
        for of in WEIGHTS:
            means = [over_seeds(rows, "annealed", of=of) for rows in found.values()]
            beyond = [
                marked(difference_annealed(found[name], found[other], of=of))
                for name, other in (
                    ("conditional", "M=1"), ("mixture", "M=1"), ("mixture", "conditional")
                )
            ]  # fmt: skip
            lines.append((binarize, of, *means, *beyond, means[0].num_seeds))
    if len(lines) == 1:
        return []
    return [
        "### Does the tighter bound undo the regularisation?",
        "",
        "1,000 training images, 15 % noise; annealed log p(x). The conditional bound with M=5 is the bound of M=1, "
        "with its gradient averaged over five corruptions in each step. The mixture bound is a tighter one. The first "
        "difference shows what averaging does. The last one shows what the tighter bound adds to it.",
        "",
        *table(*lines),
    ]


def section(cells: pd.DataFrame) -> list[str]:
    """Return the text on corruption as a regulariser."""
    study = study_of(cells)
    one = cells.iloc[0]
    vae = pd.concat([cells.iloc[:0], *(rows for (*_, level), rows in study.items() if not level)])
    errors = vae["annealed_standard_error"]
    lines = [
        "## Where corruption helps the likelihood, and where it does not",
        "",
        "Does corruption regularise where images are few, or where their pixels never change? Does drawing the pixels "
        "anew do the same work? Does a tighter bound undo it? [Choosing "
        "noise](noise.md#does-noise-raise-the-likelihood) gives the answers in words.",
        "",
        "MNIST, mlp 784-200-200-50 with tanh, salt-and-pepper noise, bound elbo; nats per image.",
        "",
        "- **Static** binarisation draws the pixels of each training image once, as the authors did. **Dynamic** "
        "binarisation draws them anew for each step.",
        "- **Epochs** are the same for all levels of noise.",
        "- **The best weights** have the best validation value of the trained bound. Validation uses 5,000 images that "
        "are held out from training. The other 55,000 are the largest training set.",
        "- **The VAE's column** is log p(x). The other columns show what noise adds to it.",
        "- **Seeds** differ in weights, noise and binarisation. All seeds train on the first N images and have the same "
        "test images, so the results hold for these images.",
        "",
        "![What noise adds to log p(x), against the number of training images: of the model alone, annealed, and with "
        "its encoder, by importance sampling](images/results-regularization.png)",
        "",
        "### The model: log p(x) by annealing",
        "",
        "Annealed importance sampling starts from the prior and does not use the encoder. Its estimate, too, is a lower "
        f"bound in expectation, but it depends on the decoder alone. We took {one['num_annealed']} test images and "
        f"{one['num_chains']} chains of {one['num_temperatures']} temperatures. The effective number of chains is "
        f"{range_of(effective_sizes(cells, 'annealed'))}; the smaller it is, the looser the bound.",
        "",
        "The error of a difference is over seeds and images, with degrees of freedom after Welch and Satterthwaite. The "
        f"error in the VAE's column is over seeds. Its error over images is {range_of(errors)} nats, most of which "
        "cancels in differences on the same images.",
        "",
    ]
    for of in WEIGHTS:
        lines += _table_of_levels(study, "annealed", of)
    lines += [
        "### Model and encoder: log p(x) by importance sampling",
        "",
        f"We took {one['num_samples']} samples of the encoder's posterior, on {one['num_test_images']:,} test images. "
        "Likelihoods are usually compared in this way. The estimate is a lower bound that depends on the encoder, too. "
        f"The effective number of samples is {range_of(effective_sizes(cells, 'log_likelihood'))}. It tends to be "
        "smallest where few images trained the encoder; a difference is then in part a difference between encoders. "
        "Errors are over seeds, on these test images.",
        "",
    ]
    for of in WEIGHTS:
        lines += _table_of_levels(study, "log_likelihood", of)
    return lines + _table_of_posteriors(cells)


def draw(cells: pd.DataFrame) -> Figure:
    """Draw what noise adds to log p(x), against the number of training images."""
    study = study_of(cells)
    counts = sorted({key[1] for key in study})
    levels = _levels(study)
    colours = plt.cm.viridis(np.linspace(0.75, 0.1, len(levels)))
    figure, panels = plt.subplots(
        2, 2, figsize=(8.5, 6.5), sharex=True, sharey="row", layout="constrained"
    )
    for line, (of, weights) in zip(panels, WEIGHTS.items(), strict=True):
        differences = {key: beyond_vae(study, key, of) for key in ESTIMATORS}
        for axes, binarize in zip(line, ("static", "dynamic"), strict=True):
            axes.axhline(0, color="0.6", linewidth=1)
            for key, estimator in ESTIMATORS.items():
                for level, colour in zip(levels, colours, strict=True):
                    found = differences[key]
                    both = [c for c in counts if (binarize, c, level) in found]
                    values = [found[binarize, c, level] for c in both]
                    label = f"{level:g} %, {estimator.label}"
                    drawing.plot(
                        axes, both, values, color=colour, label=label, **drawing.STYLES[key]
                    )
            axes.set_xscale("log")
            axes.set_xticks(counts, [f"{c:,}" for c in counts])
            axes.minorticks_off()
            axes.set_xlim(counts[0] / 1.3, counts[-1] * 1.3)
            axes.yaxis.set_major_formatter(drawing.signed)
            axes.set_title(f"{binarize} binarisation\n{weights}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel("log p(x) minus the VAE's, nats")
    for axes in panels[1]:
        axes.set_xlabel("training images")
    drawing.legend_below(figure, panels[0, 0], title="salt and pepper")
    return figure
