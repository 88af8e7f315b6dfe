"""Long runs without noise, beside what is published."""

import pandas as pd

from experiments.markdown import table
from experiments.statistics import of_cell

# Of others, for one stochastic layer: published values of log p(x) of the MNIST test set, in nats.
PUBLISHED = (
    ("VAE", "[Burda et al. (2016)](https://arxiv.org/abs/1509.00519), 50 latents", -86.76),
    ("IWAE, K=5", "[Burda et al. (2016)](https://arxiv.org/abs/1509.00519), 50 latents", -85.54),
    ("IWAE, K=50", "[Burda et al. (2016)](https://arxiv.org/abs/1509.00519), 50 latents", -84.78),
    ("VAE", "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents", -86.35),
    ("IWAE, K=5", "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents", -85.18),
    ("IWAE, K=50", "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents", -84.59),
    (
        "VAE, doubly reparameterised",
        "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents",
        -86.08,
    ),
    (
        "IWAE, K=5, doubly reparameterised",
        "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents",
        -84.90,
    ),
    (
        "IWAE, K=50, doubly reparameterised",
        "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents",
        -84.32,
    ),
)
LABELS = {
    "vae": "VAE",
    "vae-cosine": "VAE, doubly reparameterised",
    "iwae-5": "IWAE, K=5, doubly reparameterised",
}


def section(cells: pd.DataFrame) -> list[str]:
    """Return the text on long runs, beside what is published."""
    rows: list[tuple] = [("model", "source", "log p(x)")]
    for name, label in LABELS.items():
        rows_of = of_cell(cells, name)
        if rows_of.empty:
            continue
        one = rows_of.iloc[0]
        source = (
            f"here, 50 latents, {one['epochs']:,} epochs of {one['num_training_images']:,} images in batches of "
            f"{one['configuration.batch_size']}, {one['configuration.schedule']} learning rate"
        )
        text = f"{one['log_likelihood']:.2f} ± {one['log_likelihood_standard_error']:.2f}"
        rows.append((label, source, text))
    rows += [(model, source, f"{value:.2f}") for model, source, value in PUBLISHED]
    samples = cells["num_samples"].iloc[0]
    return [
        "## Long runs, beside what is published",
        "",
        f"One stochastic layer, 200-200 units with tanh, MNIST binarised dynamically, {samples:,} samples. Staged learning "
        "rates are those of Burda et al. (2016), cosine ones end at 0. Doubly reparameterised is the gradient of Tucker "
        "et al. (2019), with one sample that of [Roeder et al. (2017)](https://arxiv.org/abs/1703.09194). One run each; "
        "± is the standard error over test images. The images are the same for everyone, but not how they were binarised, "
        "nor the seed of the run; ± covers neither, so that small differences from others' figures mean nothing. The others train on 60,000 images for some 3,280 epochs, in "
        "batches of 20; here 5,000 of those images choose the best epoch.",
        "",
        *table(*rows),
    ]
