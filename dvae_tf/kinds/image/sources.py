"""Data sets of images by name or path, with default options for each of them."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dvae_tf.files import printable
from dvae_tf.kinds.image import files, folders, records
from dvae_tf.kinds.kind import Source
from dvae_tf.streamed import DatasetError, first_line

_MAX_CHANNELS = 4  # of a PNG
FILES = {".npz": files.load_npz, ".npy": files.load_npy}

# Default options of each data set. `noise_levels` maps a noise to its default level.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "digits": {
        "noise": "salt_pepper",
        "noise_levels": {"salt_pepper": 0.2},
        "likelihood": "discretized_logistic",
        "network": "mlp",
        "latent_dim": 16,
        "learning_rate": 3e-3,
        "epochs": 300,
        "batch_size": 64,
    },
    "mnist": {
        "noise": "salt_pepper",
        "likelihood": "bernoulli",
        "network": "mlp",
        "latent_dim": 50,
        "epochs": 100,
        "batch_size": 100,
    },
    "frey": {
        "noise": "gaussian",
        "likelihood": "gaussian",
        "network": "mlp",
        "latent_dim": 20,
        "epochs": 400,
        "batch_size": 100,
        "split": "contiguous",
    },
}


def reads(name: str) -> bool:
    """Return whether `load` knows the name, or can read the file or folder at this path."""
    if name in DEFAULTS or name.startswith("tfds:"):
        return True
    path = _path(name)
    return name != "" and (path.is_dir() or (path.suffix in FILES and path.exists()))


def load(name: str, *, data_dir: str | None, cache: str) -> Source:
    """Load a data set; its images are either all in memory or all streamed.

    Raises:
        DatasetError: if it is missing or damaged, or its images are unsuitable or out of range.
    """
    if name == "digits":
        return Source(name, _load_digits())
    if name == "mnist":
        return Source(name, *records.load("mnist", data_dir, "memory"), num_held_out=5000)
    if name == "frey":
        return Source(name, (_load_frey(data_dir), None), order="contiguous")
    if name.startswith("tfds:"):
        return _checked(Source(name, *records.load(name[len("tfds:") :], data_dir, cache)))
    path = _path(name)
    if path.is_dir():
        return _checked(Source(printable(path.stem), *folders.load_folder(path)))
    if path.suffix not in FILES or not path.exists():
        raise DatasetError(
            f"Images must be in an existing .npz or .npy file, or in a folder. Received: {path}."
        )
    return _checked(Source(printable(path.stem), *FILES[path.suffix](path)))


def _path(name: str) -> Path:
    return Path(os.path.expanduser(name))  # leaves an unknown ~user unchanged


def _checked(source: Source) -> Source:
    """Refuse images of more than four channels."""
    check_channels(tuple(source.train[0].shape), source.name)
    return source


def check_channels(shape: tuple[int, ...], name: str) -> None:
    """Refuse images [..., H, W, C] of more than four channels.

    Raises:
        DatasetError: the array probably has its axes in another order.
    """
    if shape[-1] <= _MAX_CHANNELS:
        return
    is_first = shape[-3] <= _MAX_CHANNELS
    remedy = "Transpose [N, channels, height, width]." if is_first else "Choose up to four."
    raise DatasetError(
        f"Images of {name} must have at most {_MAX_CHANNELS} channels, the last axis. "
        f"Received: shape {shape}. {remedy}"
    )


def _load_digits() -> files.Examples:
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    return (digits.images[..., None] / 16).astype(np.float32), digits.target


def _load_frey(data_dir: str | None) -> np.ndarray:
    import tensorflow_datasets as tfds

    from dvae_tf.kinds.image import frey_faces

    root = Path(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
    manual_file = root / "downloads" / "manual" / frey_faces.FILE_NAME
    try:
        builder = frey_faces.FreyFaces(data_dir=str(root))
        if not Path(builder.data_dir).exists():
            if manual_file.exists() and not _is_writable(root):
                return frey_faces.read_frames(manual_file)
            if not manual_file.exists():
                records.require_network(frey_faces.URL)
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=str(manual_file.parent))
            )
        source = builder.as_dataset(split="train", shuffle_files=False)
        frames = source.batch(frey_faces.NUM_FRAMES).get_single_element()
    except Exception as error:
        raise DatasetError(
            f"{frey_faces.FILE_NAME} must be downloadable from {frey_faces.URL}, or lie in "
            f"{manual_file.parent} ({first_line(error)}). Put the file there, or name another "
            "directory of TensorFlow Datasets as `data_dir`."
        ) from error
    return frames["image"].numpy()[np.argsort(frames["frame"].numpy())]


def _is_writable(directory: Path) -> bool:
    """Return whether files can be created there. Even the superuser needs the owner's write bit."""
    return bool(directory.stat().st_mode & stat.S_IWUSR) and os.access(directory, os.W_OK)
