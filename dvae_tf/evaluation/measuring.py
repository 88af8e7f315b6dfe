"""A complete evaluation: all parts on one model.

Every measured number is {"mean", "standard_error", "count"}, with the standard error over test
examples. docs/metrics.md lists the keys. Noise depends only on the seed and on the position of an
example. So all runs on one data set see the same noisy examples.
"""

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
) -> Evaluation:
    """Measure a trained model on the test split of its data set.

    Args:
        model: the trained model.
        dataset: its data set, limited and binarised as in training.
        settings: settings of the evaluation.
        report: called with the name of each part before it is measured.
        progress: called with (examples done, all examples) during the longest part, log p(x).
    """
    test = dataset.test.take(slice(settings.limit))
    clean = test.as_float()
    some = nests.take(clean, slice(settings.num_denoised))
    labels = None if test.labels is None else np.asarray(test.labels)
    some_labels = None if labels is None else labels[: settings.num_denoised]
    levels = settings.levels(model.corruption)
    result: dict[str, Any] = {"format": 1, "seed": settings.seed, "num_test_images": len(test)}

    report("bounds")
    result |= bound_terms.measure(model, clean, settings)
    report(f"log p(x), {settings.num_importance_samples} importance samples")
    result |= log_evidence.measure(model, clean, settings, progress)
    report("denoising")
    result["denoising"] = denoising.measure(model, some, levels, settings)
    report("robustness and uncertainty")
    fitted = probes.fit(model, dataset.train, settings)
    result["robustness"] = robustness.measure(
        model, some, levels, settings, probe=fitted.get("linear"), labels=some_labels
    )
    result["uncertainty"] = uncertainty.measure(model, some, settings)
    report("adversarial noise")
    result["adversarial"], attacked = adversarial.measure(model, some, settings)
    report("features")
    result["features"], arrays = features.measure(model, clean, settings)
    result["features"]["probes"] = probes.measure(model, fitted, some, some_labels, settings)
    # Without a closed form of the KL, rank units by how much their posterior means vary.
    importance = arrays.get("kl_per_unit", arrays["latents"].var(axis=0))
    arrays |= attacked | manifold.measure(model, some, importance, settings)
    if labels is not None:
        arrays["labels"] = labels
    return Evaluation(result, arrays)
