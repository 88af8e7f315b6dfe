"""What is measured on a trained model, and the report of it.

Each part is one module with a function `measure` of (model, clean examples, ..., settings):
`bound_terms`, `log_evidence`, `features` with `probes`, `denoising`, `robustness`, `uncertainty`,
`adversarial` with `attacks`, and `manifold`. `measuring` puts them together, `drawing` and `report`
show them, `comparison` sets several runs side by side. docs/metrics.md lists the numbers.
"""

from dvae_tf.evaluation.measuring import Evaluation, evaluate
from dvae_tf.evaluation.settings import Settings

__all__ = ["Evaluation", "Settings", "evaluate"]
