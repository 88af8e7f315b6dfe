"""Images of one size: [B, H, W, C], float32 in [0, 1], stored in 8 bits or as floats."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import checks, headers, pixels
from dvae_tf.kinds.kind import KINDS, Kind, Recording, Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@KINDS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class Image(Kind):
    """Images [height, width, channels] of one size. Values are in [0, 1]; noisy ones may leave it."""

    name = "image"
    sources = (
        "digits, mnist, frey, tfds:NAME, or the path of an existing .npz, .npy or folder of images"
    )
    noun = "image"
    part = "pixel"
    field = "image"
    max_parts = headers.MAX_PIXELS
    noises = ("gaussian", "salt_pepper", "masking", "speckle", "poisson", "block")
    defaults = MappingProxyType({**Kind.defaults, "network": "conv", "latent_dim": 64})

    @classmethod
    def accepts(cls, input_shape) -> bool:
        return isinstance(input_shape, tuple) and len(input_shape) == 4

    def check(self, examples, model=None, *, clean: bool = False) -> None:
        checks.check(examples, model, clean=clean)

    def as_examples(self, x, model=None, *, clean: bool = False) -> tf.Tensor:
        return checks.as_images(x, model, clean=clean)

    def to_float(self, stored) -> np.ndarray:
        return pixels.as_float(stored)

    def to_float_in_graph(self, stored) -> tf.Tensor:
        return pixels.as_float_in_graph(stored)

    def mean(self, stored) -> np.ndarray:
        return pixels.mean(stored)

    def binarized(self, stored, how: str, *seeds: int) -> np.ndarray:
        if how == "threshold":
            return pixels.above(stored, 0.5)
        return pixels.above(stored, np.random.default_rng(seeds).random(stored.shape, np.float32))

    def describe_noise(self, corruption) -> str:
        return corruption.describe(pixels.in_8_bits)

    @classmethod
    def reads(cls, name: str) -> bool:
        from dvae_tf.kinds.image import sources

        return sources.reads(name)

    def load(self, name: str, *, data_dir: str | None, cache: str) -> Source:
        from dvae_tf.kinds.image import files, sources

        if files.holds_pairs(name):
            return self.load_recorded(name, Recording(), data_dir=data_dir)
        return sources.load(name, data_dir=data_dir, cache=cache)

    def load_recorded(self, name: str, recording: Recording, *, data_dir: str | None) -> Source:
        from dvae_tf.kinds.image import photographs

        return photographs.load(name, recording, data_dir=data_dir)

    @classmethod
    def dataset_defaults(cls, name: str) -> Mapping[str, Any]:
        from dvae_tf.kinds.image import files, sources

        defaults = sources.DEFAULTS.get(name, cls.defaults)
        return {**defaults, "noise": "none"} if files.holds_pairs(name) else defaults

    def describe(self, stored) -> dict[str, Any]:
        return {"image_shape": list(stored.shape[1:])}

    def measures(self) -> dict[str, Callable[[Any, Any], np.ndarray]]:
        from dvae_tf.kinds.image import measures

        return {"psnr": measures.psnr, "ssim": measures.ssim}

    def baselines(self) -> dict[str, Callable[..., np.ndarray]]:
        from dvae_tf.kinds.image import baselines

        return baselines.denoisers()

    def run_figures(self, arrays: Mapping[str, Any], *, title: str) -> "dict[str, Figure]":
        from dvae_tf.kinds.image import pictures

        return pictures.of_run(arrays, title=title)

    def evaluation_figures(self, arrays: Mapping[str, Any]) -> "dict[str, Callable[[], Figure]]":
        from dvae_tf.kinds.image import pictures

        return pictures.of_evaluation(arrays)

    def training_callbacks(self, clean, noisy, *, log_dir: Any, every: int):
        from dvae_tf.kinds.image.callbacks import ImageGrid

        return [ImageGrid(clean, noisy, log_dir=log_dir, every=every)]

    def random_examples(self, rng: np.random.Generator, rows: int, spec) -> np.ndarray:
        return rng.random((rows, *spec.shape[1:]), np.float32)

    def signatures(self, denoise: Callable, spec: tf.TensorSpec):
        from dvae_tf.kinds.image import png

        return png.signatures(denoise, spec)

    def signature_inputs(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        from dvae_tf.kinds.image import png

        return png.inputs(examples)

    def meanings(self):
        from dvae_tf.kinds.image import png

        return png.MEANINGS | {
            "image": ("pixels; noise may leave the range", [0.0, 1.0]),
            "denoised": ("mean of p(x|z) at the posterior mean of z, pixel scale", [None, None]),
        }

    def tolerances(self, rounding: float) -> dict[str, dict[str, float]]:
        from dvae_tf.kinds.image import png

        return {"image_bytes": png.tolerance(rounding)}

    def checked_request(self, inputs: Mapping[str, tf.Tensor], spec: tf.TensorSpec):
        from dvae_tf.kinds.image import png

        return {k: png.plain(v, spec) if k == png.INPUT else v for k, v in inputs.items()}

    def describe_input(self, spec: tf.TensorSpec) -> str:
        height, width, channels = spec.shape[1:]
        scale = "float32 on the [0, 1] scale"
        if height is None:
            channels = "1 channel" if channels == 1 else f"{channels} channels"
            return f"images of any height and width, with {channels}, {scale}"
        return f"images of {height} x {width} x {channels} (height, width, channels), {scale}"
