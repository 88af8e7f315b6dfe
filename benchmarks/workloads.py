"""Workloads of the benchmark: network, noise, bound and steps, the same for all contenders."""

from dataclasses import dataclass

LATENT_DIM, HIDDEN, FILTERS, DENSE = 50, (200, 200), (32, 64), 256
LEVEL = 0.1  # of the salt-and-pepper noise
LEARNING_RATE, EPSILON = 1e-3, 1e-7  # of Adam, with Keras' own epsilon
SCALE_FLOOR = 1e-3


@dataclass(frozen=True)
class Workload:
    """A cell of the table of bounds on MNIST, dynamically binarised, in float32."""

    batch_size: int
    steps: int  # of an epoch
    network: str = "mlp"
    objective: str = "elbo"
    posterior: str = "conditional"
    num_corruptions: int = 1
    num_samples: int = 1
    contenders: tuple[str, ...] = ("dvae_tf", "jax_scan")
    required: tuple[tuple[str, float], ...] = (("jax_scan", 1.0),)  # the ratios aimed at


WORKLOADS = {
    "elbo, batch 100": Workload(
        batch_size=100,
        steps=550,
        contenders=(
            "dvae_tf",
            "jax_scan",
            "jax_step",
            "pytorch_compiled",
            "pytorch_eager",
            "pythae",
            "tf_keras_tfp",
        ),
        required=(
            ("jax_scan", 1.1),
            ("pytorch_compiled", 1.6),
            ("pytorch_eager", 2.0),
            ("pythae", 2.0),
            ("tf_keras_tfp", 2.0),
        ),
    ),
    "elbo, batch 512": Workload(
        batch_size=512, steps=106, contenders=("dvae_tf", "jax_scan", "pytorch_eager")
    ),
    "iwae K=5": Workload(batch_size=100, steps=300, objective="iwae", num_samples=5),
    "elbo, mixture M=5": Workload(
        batch_size=100, steps=200, posterior="mixture", num_corruptions=5
    ),
    "iwae K=50": Workload(batch_size=100, steps=40, objective="iwae", num_samples=50),
    "elbo, conv, batch 128": Workload(
        batch_size=128,
        steps=60,
        network="conv",
        contenders=("dvae_tf", "pytorch_compiled"),
        required=(("pytorch_compiled", 1.0),),
    ),
}
