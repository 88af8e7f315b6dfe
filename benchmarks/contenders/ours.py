"""dvae_tf itself: `model.fit`, on the pipeline that train.py uses."""

import time

import keras
import workloads as w

from dvae_tf import datasets
from dvae_tf.runs import building, defaults
from dvae_tf.runs.options import Options


class _Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def run(variant, workload, images, num_epochs, seed):
    config = defaults.resolve(
        Options(
            dataset="mnist",
            noise_level=w.LEVEL,
            network=workload.network,
            objective=workload.objective,
            posterior=workload.posterior,
            num_corruptions=workload.num_corruptions,
            num_samples=workload.num_samples,
            batch_size=workload.batch_size,
            schedule="constant",
            seed=seed,
        )
    )
    split = datasets.Split(images)
    model = building.build_model(config, images.shape[1:])
    building.compile_model(model, config, workload.steps)
    clock = _Clock()
    history = model.fit(
        datasets.training_batches(split, workload.batch_size, seed=seed),
        steps_per_epoch=workload.steps,
        epochs=num_epochs + 1,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    ).history
    return {
        "seconds": clock.seconds[1:],
        "parameters": sum(v.shape.num_elements() for v in model.trainable_variables),
        "loss": history["loss"][-1],
    }
