"""The trials, as data: cells of tables, each trained with several seeds.

An experiment is a list of cells. A cell has options of training (`dvae_tf.runs.options.Options`) and
says what to measure. Its trials differ in their seeds alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What to measure of a trained model.

    Args:
        num_importance_samples: samples for log p(x) and the bounds of each test image.
        limit: the first N test images; None takes all.
        last: measure the weights after the last epoch, too, beside the best by validation bound.
        test_levels: levels at which PSNR and probes are measured, with the kind of noise of training.
        num_annealed: the number of test images, evenly spaced, whose log p(x) is also annealed. If few
            images trained the encoder, importance sampling judges the encoder rather than p(x).
    """

    num_importance_samples: int = 5000
    limit: int | None = None
    last: bool = False
    test_levels: tuple[float, ...] = ()
    num_annealed: int = 0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Trials that differ in their seeds alone.

    Args:
        experiment: the table that the cell belongs to.
        name: unique in its experiment; the name of its trials without their seeds.
        flags: fields of `dvae_tf.runs.options.Options`.
        measure: what to measure of each trial.
        num_seeds: trials with seeds 0, 1, ...
        with_kl: False trains a denoising auto-encoder: the KL term has weight 0.
    """

    experiment: str
    name: str
    flags: dict[str, Any]
    measure: Measure = field(default_factory=Measure)
    num_seeds: int = 3
    with_kl: bool = True


@dataclass(frozen=True)
class Trial:
    """A cell trained with one seed."""

    cell: Cell
    seed: int

    @property
    def label(self) -> str:
        """The trial's name in the table of its experiment."""
        return f"{self.cell.name}-{self.seed}"

    @property
    def name(self) -> str:
        """The path of its run directory, below that of all runs."""
        return f"{self.cell.experiment}/{self.label}"

    @property
    def flags(self) -> dict[str, Any]:
        return self.cell.flags | {"seed": self.seed}

    @property
    def command(self) -> str | None:
        """The command that trains it; None for a denoising auto-encoder."""
        if not self.cell.with_kl:
            return None
        words = ["python", "train.py"]
        for name, value in self.flags.items():
            values = value if isinstance(value, tuple) else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, values)]
        return " ".join(words)


def _percent(level: float) -> str:
    return f"{100 * level:g}".replace(".", "_")


def mnist() -> Iterable[Cell]:
    """MNIST with dynamic binarisation: every cell of the table of bounds, at equal epochs."""
    shared = {"dataset": "mnist", "epochs": 100, "binarize": "dynamic"}
    measure = Measure(num_annealed=100)

    def cell(name: str, **flags) -> Cell:
        return Cell(experiment="mnist", name=name, flags=shared | flags, measure=measure)

    yield cell("vae", noise="none")
    for noise in ("salt_pepper", "authors_salt_pepper", "masking"):
        for level in (0.05, 0.1, 0.15):
            yield cell(f"dvae-{noise}-{_percent(level)}", noise=noise, noise_level=level)
    low = {"noise": "salt_pepper", "noise_level": 0.05}
    mixture = {"posterior": "mixture", "num_corruptions": 5}
    importance = {"objective": "iwae", "num_samples": 5}
    yield cell("iwae", noise="none", **importance)
    yield cell("diwae-salt_pepper-5", **low, **importance)
    yield cell("mixture-salt_pepper-5", **low, **mixture)
    yield cell("mixture-diwae-salt_pepper-5", **low, **mixture, **importance)


def frey() -> Iterable[Cell]:
    """Frey Faces: Gaussian noise, two likelihoods, and a split that leaks beside one that does not."""
    for split in ("contiguous", "random"):
        for likelihood in ("gaussian", "discretized_logistic"):
            for level in (0.0, 0.025, 0.05, 0.075, 0.1):
                noise = "gaussian" if level else "none"
                flags = {"dataset": "frey", "split": split, "likelihood": likelihood}
                yield Cell(
                    experiment="frey",
                    name=f"{split}-{likelihood}-{_percent(level)}",
                    flags=flags | {"noise": noise, "noise_level": level},
                    measure=Measure(num_annealed=196),  # all, to find those that both splits test
                    num_seeds=5,
                )


# By number of training images: enough steps for overfitting to show.
STUDY_EPOCHS = {300: 2000, 1000: 1000, 5000: 300, 55_000: 40}


def regularization() -> Iterable[Cell]:
    """Where corruption helps the likelihood: binarisation x training images x level of noise.

    For 1,000 images and 15 % noise there are also bounds with M=5, which have two seeds. Of the
    others, cells with at most 1,000 images have three seeds, the rest two.
    """

    def cell(
        binarize: str, count: int, level: float, name: str = "", num_seeds: int = 2, **flags
    ) -> Cell:
        epochs = STUDY_EPOCHS[count]
        shared = {
            "dataset": "mnist",
            "activation": "tanh",
            "binarize": binarize,
            "limit": count,
            "epochs": epochs,
            "validate_every": max(epochs // 200, 1),
            "noise": "salt_pepper" if level else "none",
            "noise_level": level,
        }
        return Cell(
            experiment="regularization",
            name=f"{binarize}-{count}-{_percent(level)}{name}",
            flags=shared | flags,
            measure=Measure(num_importance_samples=500, limit=2000, last=True, num_annealed=100),
            num_seeds=num_seeds,
        )

    for count in STUDY_EPOCHS:
        for binarize in ("static", "dynamic"):
            for level in (0.0, 0.05, 0.15, 0.3):
                yield cell(binarize, count, level, num_seeds=3 if count <= 1000 else 2)
    for binarize in ("static", "dynamic"):
        for posterior in ("conditional", "mixture"):
            yield cell(
                binarize, 1000, 0.15, f"_{posterior}", posterior=posterior, num_corruptions=5
            )


def denoising() -> Iterable[Cell]:
    """What the training noise does to denoising and features, and what the KL term does to both."""
    for level in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
        for with_kl in (True, False):
            flags = {
                "dataset": "mnist",
                "epochs": 30,
                "noise": "salt_pepper",
                "noise_level": level,
            }
            yield Cell(
                experiment="denoising",
                name=f"{'dvae' if with_kl else 'dae'}-{_percent(level)}",
                flags=flags,
                measure=Measure(
                    num_importance_samples=500, limit=2000, last=True, test_levels=(0.0, 0.1, 0.3)
                ),
                num_seeds=2,
                with_kl=with_kl,
            )


def long() -> Iterable[Cell]:
    """Long runs without noise, with the learning rate of Burda et al. (2016) or one that ends at 0.

    Runs that end at 0 use the gradient without noise where the encoder is exact (Roeder et al., 2017,
    for one sample; Tucker et al., 2019, for more). Their steps are fewer and larger, which saves hours.
    """
    cosine = {
        "objective": "iwae",
        "gradient": "doubly_reparameterized",
        "batch_size": 250,
        "learning_rate": 0.004,
        "validate_every": 10,
    }
    for name, schedule, epochs, flags in (
        ("vae", "staged", 3280, {}),
        ("vae-cosine", "cosine", 2000, cosine | {"num_samples": 1}),
        ("iwae-5", "cosine", 1200, cosine | {"num_samples": 5}),
    ):
        shared = {"dataset": "mnist", "noise": "none", "schedule": schedule, "activation": "tanh"}
        flags = shared | {"epochs": epochs} | flags
        yield Cell(experiment="long", name=name, flags=flags, num_seeds=1)


EXPERIMENTS: dict[str, Callable[[], Iterable[Cell]]] = {
    "mnist": mnist,
    "frey": frey,
    "regularization": regularization,
    "denoising": denoising,
    "long": long,
}

# `make results-quick` trains some cells of each table that does not take hours, as a check.
_QUICK_CELLS = {
    "mnist": ("vae", "dvae-salt_pepper-5", "iwae", "mixture-salt_pepper-5"),
    "frey": (
        "contiguous-gaussian-0",
        "contiguous-gaussian-5",
        "random-gaussian-0",
        "random-gaussian-5",
    ),
    "regularization": (
        "static-1000-0",
        "static-1000-15",
        "dynamic-1000-0",
        "dynamic-1000-15",
    ),
    "denoising": ("dvae-0", "dvae-20", "dae-0", "dae-20"),
}
_QUICK_EPOCHS = {"mnist": 2, "frey": 60, "regularization": 100, "denoising": 2}


def _quick(cell: Cell) -> Cell:
    """Return a cell that takes seconds."""
    flags = cell.flags | {"epochs": _QUICK_EPOCHS[cell.experiment]}
    annealed = min(cell.measure.num_annealed, 10)
    measure = replace(cell.measure, num_importance_samples=100, limit=500, num_annealed=annealed)
    return replace(cell, flags=flags, measure=measure, num_seeds=2)


def select(names: Iterable[str] = (), *, quick: bool = False) -> list[Trial]:
    """Return the trials of the named experiments, or of all: the first seed of every cell first.

    Raises:
        ValueError: if an experiment is unknown, or has no quick version.
    """
    names = list(names) or list(EXPERIMENTS)
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise ValueError(
            f"An experiment must be one of {', '.join(EXPERIMENTS)}. Received: {', '.join(unknown)}."
        )
    cells = [cell for name in names for cell in EXPERIMENTS[name]()]
    if quick:
        cells = [_quick(c) for c in cells if c.name in _QUICK_CELLS.get(c.experiment, ())]
    if not cells:
        raise ValueError(
            f"An experiment must have a quick version. Received: {', '.join(names)}. "
            "Run it without --quick."
        )
    trials = [Trial(cell, seed) for cell in cells for seed in range(cell.num_seeds)]
    return sorted(trials, key=lambda trial: trial.seed)
