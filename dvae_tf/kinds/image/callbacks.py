"""A callback that shows images during training."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import counts, figures
from dvae_tf.kinds.image import pictures


class ImageGrid(keras.callbacks.Callback):
    """Writes clean, corrupted and denoised images every few epochs, to disk and to TensorBoard.

    Args:
        clean: images [N, H, W, C] in [0, 1], or None if there are no clean ones.
        noisy: the same images, corrupted.
        directory: directory for `denoising-EPOCH.png`; None writes no files.
        log_dir: directory for TensorBoard's events; None writes none.
        every: epochs between grids.
    """

    def __init__(self, clean, noisy, *, directory=None, log_dir=None, every: int = 10):
        super().__init__()
        counts.check("every", every)
        self.clean = None if clean is None else np.asarray(clean, np.float32)
        self.noisy = np.asarray(noisy, np.float32)
        self.directory = None if directory is None else Path(directory)
        self.log_dir = None if log_dir is None else str(log_dir)
        self.every = every
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        denoised = self.model(self.noisy).numpy()
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            figure = pictures.denoising_grid(self.clean, self.noisy, denoised)
            path = self.directory / f"denoising-{epoch + 1:04d}.png"
            path.write_bytes(figures.to_png(figure))
        if self.log_dir is not None:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(self.log_dir)
            # Rows of bare images: drawing a figure would take longer than a short epoch.
            shown = {"clean": self.clean, "corrupted": self.noisy, "denoised": denoised}
            shown = {name: images for name, images in shown.items() if images is not None}
            rows = [np.concatenate(images, axis=1) for images in shown.values()]
            grid = np.clip(np.concatenate(rows), 0, 1)[np.newaxis]
            with self._writer.as_default():
                tf.summary.image(", ".join(shown), grid, step=epoch + 1)

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None
