"""Images per second of `model.fit` beside a hand-written PyTorch loop that does the same work.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    python benchmarks/train_step.py --data-dir TFDS_DIRECTORY

The network is the mlp 784-200-200-50 of MNIST with salt-and-pepper noise, dynamic binarisation, the
ELBO and Adam, in float32. The contenders take turns, several times, each in a process of its own;
the medians and their ratio go to benchmarks/train_step.json.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]
LATENT_DIM, HIDDEN, LEVEL = 50, (200, 200), 0.1


def time_dvae_tf(images, batch_size: int, num_epochs: int) -> dict:
    """Time epochs of `fit` after one that compiles, with the pipeline that train.py uses."""
    import keras

    from dvae_tf import configuration, datasets, experiment

    config = configuration.resolve(
        configuration.Configuration(
            dataset="mnist", noise_level=LEVEL, batch_size=batch_size, schedule="constant"
        )
    )
    split = datasets.Split(images)
    steps = datasets.steps_per_epoch(split, batch_size)
    model = experiment.build_model(config, images.shape[1:])
    experiment.compile_model(model, config, steps)

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)

    clock = Clock()
    history = model.fit(
        datasets.training_batches(split, batch_size, seed=0, binarize=True),
        steps_per_epoch=steps,
        epochs=num_epochs + 1,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    ).history
    return {
        "images_per_second": steps * batch_size / statistics.median(clock.seconds[1:]),
        "parameters": sum(v.shape.num_elements() for v in model.trainable_variables),
        "loss": history["loss"][-1],
    }


def time_pytorch(images, batch_size: int, num_epochs: int) -> dict:
    """Time epochs of an eager loop, written as one would: data on hand, one gather a batch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    data = torch.from_numpy(images.reshape(len(images), -1))
    size = data.shape[1]

    def mlp(sizes):
        pairs = list(itertools.pairwise(sizes))
        modules = [nn.Linear(*pairs[0])]
        for pair in pairs[1:]:
            modules += [nn.SiLU(), nn.Linear(*pair)]
        return nn.Sequential(*modules)

    encoder = mlp([size, *HIDDEN, 2 * LATENT_DIM])
    decoder = mlp([LATENT_DIM, *reversed(HIDDEN), size])
    parameters = [*encoder.parameters(), *decoder.parameters()]
    for parameter in parameters:  # as Keras starts
        nn.init.xavier_uniform_(parameter) if parameter.ndim == 2 else nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)
    steps = len(data) // batch_size

    def epoch():
        order, total = torch.randperm(len(data)), 0.0
        for step in range(steps):
            pixels = data[order[step * batch_size : (step + 1) * batch_size]].float() / 255
            x = (torch.rand_like(pixels) < pixels).float()
            u = torch.rand_like(x)
            noisy = torch.where(
                u < LEVEL / 2, torch.zeros(()), torch.where(u < LEVEL, torch.ones(()), x)
            )
            mean, raw = encoder(noisy).chunk(2, dim=1)
            scale = 1e-3 + nn.functional.softplus(raw)
            logits = decoder(mean + scale * torch.randn_like(mean))
            reconstruction = -nn.functional.binary_cross_entropy_with_logits(
                logits, x, reduction="none"
            ).sum(1)
            kl = (0.5 * (mean**2 + scale**2 - 1) - torch.log(scale)).sum(1)
            loss = (kl - reconstruction).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() if step % 50 == 0 else 0.0
        return total / len(range(0, steps, 50))

    epoch()
    seconds = []
    for _ in range(num_epochs):
        start = time.perf_counter()
        loss = epoch()
        seconds.append(time.perf_counter() - start)
    return {
        "images_per_second": steps * batch_size / statistics.median(seconds),
        "parameters": sum(p.numel() for p in parameters),
        "loss": loss,
    }


CONTENDERS = {"dvae_tf": time_dvae_tf, "pytorch_eager": time_pytorch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="directory of TensorFlow Datasets")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[100, 512])
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))

    if options.contender:
        from dvae_tf import datasets

        images = datasets.load("mnist", data_dir=options.data_dir).train.images
        for batch_size in options.batch_sizes:
            result = CONTENDERS[options.contender](images, batch_size, options.epochs)
            print(json.dumps({"batch_size": batch_size} | result))
        return

    results = []
    for _ in range(options.repeats):
        for contender in CONTENDERS:
            command = [sys.executable, __file__, "--contender", contender]
            command += ["--epochs", str(options.epochs)]
            command += ["--batch-sizes", *map(str, options.batch_sizes)]
            command += ["--data-dir", options.data_dir] if options.data_dir else []
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for line in output.splitlines():
                if line.startswith("{"):
                    results.append({"contender": contender} | json.loads(line))
                    print(results[-1], flush=True)

    assert len({result["parameters"] for result in results}) == 1, "the networks differ"
    summary = {}
    for batch_size in options.batch_sizes:
        rates = {
            contender: [
                r["images_per_second"]
                for r in results
                if (r["contender"], r["batch_size"]) == (contender, batch_size)
            ]
            for contender in CONTENDERS
        }
        pairs = zip(rates["dvae_tf"], rates["pytorch_eager"], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        summary[str(batch_size)] = {
            "images_per_second": {k: round(statistics.median(v)) for k, v in rates.items()},
            "ratio": round(statistics.median(ratios), 2),
            "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    content = {
        "what": "mlp 784-200-200-50, salt-and-pepper 0.1, ELBO, Adam, float32",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "repeats": options.repeats,
        "losses": {
            contender: sorted({round(r["loss"], 1) for r in results if r["contender"] == contender})
            for contender in CONTENDERS
        },
        "batch_sizes": summary,
    }
    (ROOT / "benchmarks" / "train_step.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
