"""Evaluation of a trained model on test examples, and its report.

Each part is one module with a function `measure(model, clean, ..., settings)`: `bound_terms`,
`log_evidence`, `features` with `probes`, `denoising`, `robustness`, `uncertainty`, `adversarial`
with `attacks`, and `manifold`. `measuring` runs all parts, `drawing` and `report` show the results,
and `comparison` puts several runs side by side. docs/metrics.md explains the numbers.
"""

from dvae_tf.evaluation.measuring import Evaluation, evaluate
from dvae_tf.evaluation.settings import Settings

__all__ = ["Evaluation", "Settings", "evaluate"]
