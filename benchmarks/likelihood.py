"""Speed and memory of the importance-sampled log p(x), beside its arithmetic and pythae's get_nll.

    python benchmarks/likelihood.py                       # this project and the arithmetic floor
    python benchmarks/likelihood.py --pythae-python PATH  # and pythae, from its environment

The network is the mlp 784-200-200-50. The floor is the time of the decoder's matrix products at the
rate of a large product in the same run. pythae pins older versions of this project's requirements, so
it needs an environment of its own. The result goes to benchmarks/likelihood.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]
LATENT_DIM, HIDDEN, SIZE = 50, 200, 784
FLOP_PER_SAMPLE = 2 * (LATENT_DIM * HIDDEN + HIDDEN * HIDDEN + HIDDEN * SIZE)

# Runs in pythae's own environment: an equal decoder, and its method for the same job.
PYTHAE = """
import json, sys, time
import torch
from pythae.models import VAE, VAEConfig
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.models.base.base_utils import ModelOutput
from torch import nn

images, samples = int(sys.argv[1]), int(sys.argv[2])

class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(784, 200), nn.SiLU(), nn.Linear(200, 200), nn.SiLU())
        self.mean, self.log_var = nn.Linear(200, 50), nn.Linear(200, 50)
    def forward(self, x):
        h = self.body(x.reshape(len(x), -1))
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(50, 200), nn.SiLU(), nn.Linear(200, 200), nn.SiLU(),
                                  nn.Linear(200, 784), nn.Sigmoid())
    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z).reshape(-1, 1, 28, 28))

config = VAEConfig(input_dim=(1, 28, 28), latent_dim=50, reconstruction_loss="bce")
model = VAE(config, encoder=Encoder(), decoder=Decoder()).eval()
x = (torch.rand(images, 1, 28, 28) < 0.2).float()
with torch.no_grad():
    model.get_nll(x[:1], n_samples=samples, batch_size=100)
    start = time.perf_counter()
    model.get_nll(x, n_samples=samples, batch_size=100)
print(json.dumps({"images_per_second": images / (time.perf_counter() - start)}))
"""


def matmul_rate() -> float:
    """Return the FLOP/s of a 2048-cube matrix product in TensorFlow."""
    import tensorflow as tf

    a = tf.random.normal([2048, 2048])
    times = []
    for _ in range(10):
        start = time.perf_counter()
        tf.matmul(a, a).numpy()
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / sorted(times)[len(times) // 2]


def resident_gib() -> float:
    """Return the peak resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--pythae-python", help="Python of an environment with pythae")
    parser.add_argument("--pythae-images", type=int, default=100)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))

    import numpy as np

    from dvae_tf import likelihood, networks

    encoder, decoder = networks.mlp((28, 28, 1), LATENT_DIM, hidden=(HIDDEN, HIDDEN))
    images = np.random.default_rng(0).random((options.images, 28, 28, 1)) < 0.2
    images = images.astype(np.float32)
    imported = resident_gib()
    rates = [matmul_rate()]
    start = time.perf_counter()
    likelihood.importance_sampling(encoder, decoder, images, num_samples=options.samples)
    seconds = time.perf_counter() - start
    rates.append(matmul_rate())
    floor = FLOP_PER_SAMPLE * options.samples * options.images / np.mean(rates)
    content = {
        "what": "log p(x), mlp 784-200-200-50, Bernoulli",
        "cores": os.cpu_count(),
        "images": options.images,
        "samples": options.samples,
        "seconds": round(seconds, 1),
        "images_per_second": round(options.images / seconds, 1),
        "matmul_gflops_before_and_after": [round(rate / 1e9) for rate in rates],
        "times_the_arithmetic_floor": round(seconds / floor, 2),
        "resident_gib_beyond_import": round(resident_gib() - imported, 2),
    }
    if options.pythae_python:
        command = [options.pythae_python, "-c", PYTHAE]
        command += [str(options.pythae_images), str(options.samples)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pythae = json.loads(output.splitlines()[-1])["images_per_second"]
        content["pythae_images_per_second"] = round(pythae, 1)
        content["times_pythae"] = round(content["images_per_second"] / pythae, 1)
    (ROOT / "benchmarks" / "likelihood.json").write_text(
        json.dumps(content, indent=2) + "\n", encoding="utf-8"
    )
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
