"""How random is the order of the training images, between epochs and between seeds?

    python benchmarks/order.py

It measures four orders in the same way: those of commits 8b4461c and 96ea7c0, that of this checkout,
and NumPy's permutations. The result goes to benchmarks/order.json.
"""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

BENCHMARKS = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCHMARKS.parent))

from dvae_tf import datasets, randomness

NUM_IMAGES, BATCH_SIZE = 55_000, 100  # of MNIST's training split
NUM_EPOCHS, NUM_SEEDS = 20, 6


def order_of_8b4461c(seed: int) -> list[np.ndarray]:
    """Return the order of each epoch at 8b4461c, whose seed is [a constant, the epoch's number]."""
    order_seed = tf.random.split([seed, 0], 2, alg="philox")[0]
    return [
        tf.random.experimental.index_shuffle(
            tf.range(NUM_IMAGES),
            tf.random.fold_in(order_seed, epoch, alg="philox"),
            max_index=NUM_IMAGES - 1,
        ).numpy()
        for epoch in range(NUM_EPOCHS)
    ]


def order_of_96ea7c0(seed: int) -> list[np.ndarray]:
    """Return the order of each epoch at 96ea7c0: one shuffle with a seed of its own."""
    (order_seed,) = randomness.split(randomness.as_seed(seed), 1)
    return [
        tf.random.experimental.index_shuffle(
            tf.range(NUM_IMAGES),
            randomness.fold_in(order_seed, epoch),
            max_index=NUM_IMAGES - 1,
        ).numpy()
        for epoch in range(NUM_EPOCHS)
    ]


def present_order(seed: int) -> list[np.ndarray]:
    """Return the order of each epoch today, read from images that hold their own numbers."""
    numbers = np.arange(NUM_IMAGES, dtype=np.float32).reshape(-1, 1, 1, 1)
    steps = NUM_IMAGES // BATCH_SIZE
    batches = datasets.training_batches(datasets.Split(numbers), BATCH_SIZE, seed=seed)
    read = np.concatenate(
        [batch.numpy().ravel() for batch in batches.take(steps * NUM_EPOCHS)]
    ).astype(int)
    return list(read.reshape(NUM_EPOCHS, NUM_IMAGES))


def numpy_order(seed: int) -> list[np.ndarray]:
    """Return permutations of NumPy's generator, one for each epoch."""
    return [np.random.default_rng([seed, e]).permutation(NUM_IMAGES) for e in range(NUM_EPOCHS)]


def batch_of_each_image(order: np.ndarray) -> np.ndarray:
    """Return the number of the batch that holds image i, for each i: [NUM_IMAGES]."""
    batch = np.empty(NUM_IMAGES, int)
    batch[order] = np.arange(NUM_IMAGES) // BATCH_SIZE
    return batch


def shared_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Return how many pairs of images share a batch in both orders, relative to chance."""
    num_batches = NUM_IMAGES // BATCH_SIZE
    counts = np.bincount(first * num_batches + second, minlength=num_batches**2)
    expected = NUM_IMAGES * (BATCH_SIZE - 1) ** 2 / (NUM_IMAGES - 1) / 2
    return float((counts * (counts - 1) // 2).sum() / expected)


def summary(ratios: Iterable[float]) -> dict[str, float]:
    ratios = list(ratios)
    return {
        "mean": round(float(np.mean(ratios)), 2),
        "least": round(min(ratios), 2),
        "largest": round(max(ratios), 2),
    }


def measure(orders: list[list[np.ndarray]]) -> dict:
    """Measure the orders of several seeds, [seed][epoch] -> [NUM_IMAGES]."""
    batches = [[batch_of_each_image(order) for order in epochs] for epochs in orders]

    def within() -> Iterator[float]:
        for epochs in batches:
            yield from (shared_pairs(a, b) for a, b in itertools.combinations(epochs, 2))

    def between() -> Iterator[float]:
        for a, b in itertools.combinations(batches, 2):
            yield from (shared_pairs(x, y) for x, y in zip(a, b, strict=True))

    # Of a random order the mean number of a batch, standardised, has variance 1.
    standard = (np.arange(NUM_IMAGES) - (NUM_IMAGES - 1) / 2) / (NUM_IMAGES / np.sqrt(12))
    means = [
        standard[order].reshape(-1, BATCH_SIZE).mean(axis=1)
        for epochs in orders
        for order in epochs
    ]
    return {
        "pairs_shared_by_two_epochs_over_chance": summary(within()),
        "pairs_shared_by_two_seeds_over_chance": summary(between()),
        "variance_of_batch_means_over_chance": round(float(BATCH_SIZE * np.var(means)), 2),
        "epochs_that_repeat_an_order": sum(
            len(epochs) - len({order.tobytes() for order in epochs}) for epochs in orders
        ),
    }


def main() -> None:
    content: dict = {
        "command": "python benchmarks/order.py",
        "images": NUM_IMAGES,
        "batch_size": BATCH_SIZE,
        "epochs": NUM_EPOCHS,
        "seeds": NUM_SEEDS,
    }
    for name, order in (
        ("8b4461c", order_of_8b4461c),
        ("96ea7c0", order_of_96ea7c0),
        ("this code", present_order),
        ("NumPy", numpy_order),
    ):
        content[name] = measure([order(seed) for seed in range(NUM_SEEDS)])
        print(name, content[name], flush=True)
    (BENCHMARKS / "order.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
