"""Probes: classifiers that predict labels from posterior means, fitted on training examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dvae_tf import datasets
from dvae_tf.evaluation.features import posterior
from dvae_tf.evaluation.noise import corrupted
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.summary import measured
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE

# The second seed of the binarising draws here; training, validation and test splits use 0, 1 and 2.
_BINARIZATION = 3


def fit_linear_probe(features: np.ndarray, labels: np.ndarray):
    """Return a logistic regression on standardised features: [N, L], [N]."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)


def fit_nearest_neighbours(features: np.ndarray, labels: np.ndarray):
    """Return a classifier by the five nearest neighbours: [N, L], [N]."""
    return KNeighborsClassifier(min(5, len(features))).fit(features, labels)


def probed_examples(model: DVAE, train: datasets.Split, count: int, seed: int) -> datasets.Split:
    """Return `count` training examples for probes, binarised if the model trains on binary values."""
    some = datasets.in_memory(train, count)
    return datasets.binarized(some, "static", seed, _BINARIZATION) if model.binarize else some


def fit(model: DVAE, train: datasets.Split, settings: Settings) -> dict[str, Any]:
    """Return fitted probes by name; none if there are no labels, or all examples have the same."""
    some = probed_examples(model, train, settings.num_probed, settings.seed)
    if some.labels is None or len(np.unique(some.labels)) < 2:
        return {}
    labels = np.asarray(some.labels)
    means, _ = posterior(model, some.as_float(), settings.batch_size)
    return {
        "linear": fit_linear_probe(means, labels),
        "nearest_neighbours": fit_nearest_neighbours(means, labels),
    }


def measure(
    model: DVAE,
    probes: Mapping[str, Any],
    clean: Example,
    labels: np.ndarray | None,
    settings: Settings,
) -> list[dict[str, Any]]:
    """Return the accuracy of each probe on clean and on corrupted examples, as in metrics.json.

    Args:
        model: the trained model.
        probes: the result of `fit`.
        clean: examples, [N, ...].
        labels: labels of the examples, [N]; may be None without probes.
        settings: settings of the evaluation.
    """
    if not probes:
        return []
    inputs = {"clean": clean, "corrupted": corrupted(model.corruption, clean, settings.seed)}
    rows = []
    for name, examples in inputs.items():
        means, _ = posterior(model, examples, settings.batch_size)
        for classifier, probe in probes.items():
            accuracy = measured(probe.predict(means) == labels)
            rows.append({"classifier": classifier, "input": name, "accuracy": accuracy})
    return rows
