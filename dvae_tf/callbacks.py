"""Keras callbacks of this project; every stock callback works beside them."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import figures


class KLWarmUp(keras.callbacks.Callback):
    """Raises the weight of the KL term linearly from 0 to 1 over the first epochs.

    The logged `bound` and `elbo` stay those with weight 1; only `loss` feels the weight.

    Args:
        epochs: epoch e, counted from 0, has weight min(e / epochs, 1).

    Raises:
        ValueError: if `epochs` is not positive, or, when training begins, if the model's gradient is
            doubly reparameterised, which is unbiased for weight 1 only.
    """

    def __init__(self, epochs: int):
        super().__init__()
        if epochs < 1:
            raise ValueError(f"`epochs` must be at least 1. Received: epochs={epochs}.")
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        if self.model.gradient == "doubly_reparameterized":
            raise ValueError(
                "KLWarmUp must go with gradient='reparameterized'. "
                f"Received: a model with gradient={self.model.gradient!r}."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight.assign(min(epoch / self.epochs, 1.0))


class ImageGrid(keras.callbacks.Callback):
    """Writes clean, corrupted and denoised images every few epochs, to disk and to TensorBoard.

    Args:
        clean: images [N, H, W, C] in [0, 1].
        noisy: the same images, corrupted.
        directory: where `denoising-EPOCH.png` goes; None writes none.
        log_dir: where TensorBoard's events go; None writes none.
        every: epochs between grids.
    """

    def __init__(self, clean, noisy, *, directory=None, log_dir=None, every: int = 10):
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be at least 1. Received: every={every}.")
        self.clean = np.asarray(clean, np.float32)
        self.noisy = np.asarray(noisy, np.float32)
        self.directory = None if directory is None else Path(directory)
        self.log_dir = None if log_dir is None else str(log_dir)
        self.every = every
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        denoised = self.model(self.noisy).numpy()
        figure = figures.denoising_grid(self.clean, self.noisy, denoised)
        png = figures.to_png(figure)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / f"denoising-{epoch + 1:04d}.png").write_bytes(png)
        if self.log_dir is not None:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(self.log_dir)
            with self._writer.as_default():
                tf.summary.image("denoising", tf.io.decode_png(png)[tf.newaxis], step=epoch + 1)

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None
