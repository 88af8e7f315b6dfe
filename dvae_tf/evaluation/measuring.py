"""A complete evaluation: all parts on one model.

Every measured number is {"mean", "standard_error", "count"}, with the standard error over test
examples. docs/metrics.md lists the keys. Noise depends only on the seed and on the position of an
example. So all runs on one data set see the same noisy examples.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvae_tf import datasets, nests
from dvae_tf.evaluation import (
    adversarial,
    bound_terms,
    denoising,
    features,
    log_evidence,
    manifold,
    probes,
    robustness,
    uncertainty,
)
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.unfinished import Measurements, Part
from dvae_tf.model import DVAE


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        metrics: the content of metrics.json, as JSON values.
        arrays: what figures show, by name: `latents`, posterior means [N, L]; `labels` [N], if
            known; `kl_per_unit` [L], if it has a closed form; and the arrays of `manifold.measure`
            and `adversarial.measure`.
    """

    metrics: dict[str, Any]
    arrays: dict[str, Any]


def evaluate(
    model: DVAE,
    dataset: datasets.Dataset,
    settings: Settings,
    *,
    report: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
    unfinished: Measurements | None = None,
) -> Evaluation:
    """Measure a trained model on the test split of its data set.

    Args:
        model: the trained model.
        dataset: its data set, limited and binarised as in training.
        settings: settings of the evaluation.
        report: called with the name of each part before it is measured.
        progress: called with (examples done, all examples) during the longest part, log p(x).
        unfinished: where parts are kept as soon as they are measured. Those that it holds already
            are not measured again.
    """
    test = dataset.test.take(slice(settings.limit))
    clean = test.as_float()
    some = nests.take(clean, slice(settings.num_denoised))
    labels = None if test.labels is None else np.asarray(test.labels)
    some_labels = None if labels is None else labels[: settings.num_denoised]
    levels = settings.levels(model.corruption)

    @functools.cache
    def fitted() -> dict[str, Any]:
        return probes.fit(model, dataset.train, settings)

    def measure_robustness() -> Part:
        probe = fitted().get("linear")
        rows = robustness.measure(model, some, levels, settings, probe=probe, labels=some_labels)
        uncertain = uncertainty.measure(model, some, settings)
        return Part({"robustness": rows, "uncertainty": uncertain}, {})

    def measure_attack() -> Part:
        rows, attacked = adversarial.measure(model, some, settings)
        return Part({"adversarial": rows}, attacked)

    def measure_features() -> Part:
        numbers, arrays = features.measure(model, clean, settings)
        numbers["probes"] = probes.measure(model, fitted(), some, some_labels, settings)
        # Without a closed form of the KL, rank units by how much their posterior means vary.
        importance = arrays.get("kl_per_unit", arrays["latents"].var(axis=0))
        return Part(
            {"features": numbers}, arrays | manifold.measure(model, some, importance, settings)
        )

    measure: dict[str, Callable[[], Part]] = {
        "bounds": lambda: Part(bound_terms.measure(model, clean, settings), {}),
        f"log p(x), {settings.num_importance_samples} importance samples": lambda: Part(
            log_evidence.measure(model, clean, settings, progress), {}
        ),
        "denoising": lambda: Part(
            {"denoising": denoising.measure(model, some, levels, settings)}, {}
        ),
        "robustness and uncertainty": measure_robustness,
        "adversarial noise": measure_attack,
        "features": measure_features,
    }
    parts = {} if unfinished is None else unfinished.load()
    result: dict[str, Any] = {"format": 1, "seed": settings.seed, "num_test_images": len(test)}
    arrays = {} if labels is None else {"labels": labels}
    for name, measure_part in measure.items():
        if name in parts:
            report(f"{name}: measured before the stop")
        else:
            report(name)
            parts[name] = measure_part()
            if unfinished is not None:
                unfinished.save(parts)
        result |= parts[name].metrics
        arrays |= parts[name].arrays
    return Evaluation(result, arrays)
