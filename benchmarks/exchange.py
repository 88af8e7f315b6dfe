"""Train MNIST at one commit with random numbers of another, to find what changed the bound.

    git worktree add ../earlier 8b4461c && git worktree add ../later ae87cda
    python benchmarks/exchange.py ../earlier ../later --order earlier --noise later --seed 0

The first checkout trains; it may be any commit from 8b4461c to c1967b0. `--order` says whose image
order it takes, and `--noise` whose corruption and latents. "own" exchanges nothing. The script prints
a row of same_bound_runs.json.
"""

import argparse
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf


def random_numbers(checkout: Path) -> ModuleType:
    """Return the module `randomness` of a checkout."""
    path = checkout / "dvae_tf" / "randomness.py"
    spec = importlib.util.spec_from_file_location(f"randomness_{checkout.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ordered_batches(images, size: int, seed: int, epochs: int, order, pixels) -> tf.data.Dataset:
    """Return training batches in another order.

    Args:
        images: uint8 [N, 28, 28, 1].
        size: images in a batch.
        order: a module `randomness`, or None for NumPy's permutations.
        pixels: the module `randomness` that binarises here, or None where the model binarises.
    """
    count, steps = len(images), len(images) // size
    with tf.device("CPU"):
        held = tf.constant(images)
        orders = [np.random.default_rng([seed, e]).permutation(count) for e in range(epochs + 2)]
        permutations = tf.constant(np.stack(orders).astype(np.int32))

    def places(step):
        place = tf.cast(step % steps, tf.int32) * size + tf.range(size)
        if order is None:
            return tf.gather(tf.gather(permutations, step // steps), place)
        order_seed = order.fold_in(order.split(order.as_seed(seed))[0], step // steps)
        return tf.random.experimental.index_shuffle(place, order_seed, max_index=count - 1)

    def batch(step):
        x = tf.cast(tf.gather(held, places(step)), tf.float32) / 255.0
        x = tf.ensure_shape(x, (size, *images.shape[1:]))
        if pixels is not None:
            pixel_seed = pixels.fold_in(pixels.split(pixels.as_seed(seed))[1], step)
            x = tf.cast(pixels.uniform(tf.shape(x), pixel_seed) < x, tf.float32)
        return x

    return tf.data.Dataset.range((epochs + 1) * steps).map(batch).prefetch(tf.data.AUTOTUNE)


def same_noise_bound(model, x: np.ndarray, level: float) -> float:
    """Return the bound, averaged over five corruptions of all images that NumPy draws."""
    rng = np.random.default_rng(12345)
    bound = tf.function(
        lambda x, noisy, seed: model.bound_terms(x, seed=seed, noisy=noisy).bound, jit_compile=True
    )
    means = []
    for draw in range(5):
        is_hit = rng.random(x.shape) < level
        noisy = np.where(is_hit, rng.random(x.shape) < 0.5, x).astype(np.float32)
        for i in range(0, len(x), 1000):
            seed = tf.constant([draw, i], tf.int32)
            means.append(float(tf.reduce_mean(bound(x[i : i + 1000], noisy[i : i + 1000], seed))))
    return float(np.mean(means))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("earlier", type=Path, help="checkout that trains")
    parser.add_argument("later", type=Path, help="checkout with the other random numbers")
    parser.add_argument("--order", choices=("own", "earlier", "later", "numpy"), default="own")
    parser.add_argument("--noise", choices=("own", "later"), default="own")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sources = {"earlier": options.earlier, "later": options.later}
    own, later = random_numbers(options.earlier.resolve()), random_numbers(options.later.resolve())
    sys.path.insert(0, str(options.earlier.resolve()))
    from dvae_tf import configuration, datasets, experiment, networks, randomness

    words = ["--dataset", "mnist", "--epochs", str(options.epochs), "--seed", str(options.seed)]
    asked = configuration.parse(words)
    assert asked is not None, "only --help asks for nothing"
    config = configuration.resolve(asked)
    dataset = experiment.load_dataset(config)
    size = config.batch_size
    assert size is not None, "a resolved configuration has a batch size"
    model = experiment.build_model(config, dataset.image_shape)
    images = np.asarray(dataset.train.images)
    networks.start_at_mean(model.decoder, images.mean(axis=0, dtype=np.float64) / 255)
    steps = datasets.steps_per_epoch(dataset.train, size)
    experiment.compile_model(model, config, steps)
    # Later commits binarise in the model, not in the batches.
    binarizes = "binarize" in inspect.signature(datasets.training_batches).parameters
    if options.order == "own":
        batches = datasets.training_batches(
            dataset.train,
            size,
            seed=config.seed,
            **({"binarize": True} if binarizes else {}),
        )
    else:
        order = (
            random_numbers(sources[options.order].resolve()) if options.order in sources else None
        )
        batches = ordered_batches(
            images,
            size,
            config.seed,
            options.epochs,
            order,
            own if binarizes else None,
        )
    if options.noise == "later":  # the model looks these up when its steps are traced
        for name in ("split", "fold_in", "uniform", "normal", "_bits"):
            setattr(randomness, name, getattr(later, name))
    history = model.fit(
        batches,
        steps_per_epoch=steps,
        shuffle=False,
        epochs=options.epochs,
        validation_data=datasets.evaluation_batches(dataset.validation, 500),
        verbose=0,
    ).history
    x = datasets.as_float(dataset.validation.images)
    row = {"order": options.order, "noise": options.noise, "seed": options.seed}
    row["val_bound"] = round(history["val_bound"][-1], 3)
    row["same_noise_bound"] = round(same_noise_bound(model, x, config.noise_level), 3)
    row["training_bound"] = round(history["bound"][-1], 3)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
