"""Long runs without noise, beside what is published."""

import pandas as pd

from experiments.markdown import table
from experiments.statistics import of_cell

# Published log p(x) of the MNIST test set with one stochastic layer, in nats.
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
        f"One stochastic layer, 200-200 units with tanh, MNIST binarised dynamically, {samples:,} samples.",
        "",
        "- **Learning rate.** Staged rates follow Burda et al. (2016), cosine rates end at 0.",
        "- **Gradient.** The doubly reparameterised gradient is that of Tucker et al. (2019). With one sample it is "
        "the gradient of [Roeder et al. (2017)](https://arxiv.org/abs/1703.09194).",
        "- **Error.** Each number is from one run, and ± is the standard error over test images. Everyone has the same "
        "test images, but binarisation and seed differ. ± covers neither, so small differences from others' numbers "
        "mean nothing.",
        "- **Training images.** The others train on 60,000 images for some 3,280 epochs, in batches of 20. Here, 5,000 "
        "of those images are held out to choose the best epoch.",
        "",
        *table(*rows),
    ]
