"""Headings of the report, and a caption for each figure."""

from dvae_tf.evaluation.denoising import measures
from dvae_tf.kinds import Kind


def sections(kind: Kind) -> dict[str, dict[str, str]]:
    """Return the sections of the report in order: heading -> {figure -> caption}.

    Figures that have no caption here are captioned by their names.

    Args:
        kind: kind of data.
    """
    noun = kind.noun
    return {
        "Denoising": {
            name: f"{measure.label} against noise level, for each kind of noise. "
            f"{'Lower' if measure.is_error else 'Higher'} is better."
            for name, measure in measures(kind).items()
        }
        | {
            "calibration": "Uncertainty of values: the actual error against the predicted standard "
            "deviation.",
        },
        "Features": {
            "latents": f"Posterior means of the test {noun}s. The black paths are repeated "
            "denoising, from ring to dot.",
            "kl": "KL term of each latent unit.",
        },
        "Robustness": robustness(kind)
        | {
            "adversarial": "Squared error under random noise and under a projected-gradient attack "
            "of the same L2 size. Denoising is not adversarial robustness.",
            "attack": "Random noise and attack of the training noise's size, before and after "
            "denoising.",
        },
        "Manifold": {
            "repeated": f"Repeated denoising: each {noun} is the denoised version of the one on its "
            "left. The first is corrupted.",
            "traversal": "Latent traversals: one unit changes in each row, in order of falling KL.",
            "interpolation": f"Interpolation between the posterior means of two test {noun}s.",
            "samples": "E[x|z] for latents drawn from the prior.",
        },
    }


def robustness(kind: Kind) -> dict[str, str]:
    """Return captions for the curves against the noise level: figure -> caption."""
    return {
        "bound": "The bound against noise level, for each kind of noise.",
        "error": f"Squared error of the denoised {kind.noun} against noise level.",
        "probe": f"Accuracy of a linear probe on the posterior means of corrupted {kind.noun}s.",
    }
