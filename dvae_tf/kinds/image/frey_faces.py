"""Frey Faces as a TensorFlow Datasets builder: 1,965 frames of one face, 28 x 20, 8-bit grey."""

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

URL = "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
FILE_NAME = "frey_rawface.mat"
NUM_FRAMES = 1965
HEIGHT, WIDTH = 28, 20


class FreyFaces(tfds.core.GeneratorBasedBuilder):
    """The frames in the order of the video, with their index. Neighbours are nearly equal."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Used where {FILE_NAME} is already there; otherwise it is downloaded from {URL}."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            homepage="https://cs.nyu.edu/~roweis/data.html",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(HEIGHT, WIDTH, 1)),
                    "frame": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        # `dl_manager.manual_dir` would raise without a directory. Here a manual download is optional.
        path = dl_manager._manual_dir / FILE_NAME if dl_manager._manual_dir else None
        if path is None or not path.exists():
            path = dl_manager.download(URL)
        return {"train": self._generate_examples(path)}

    def _generate_examples(self, path):
        for frame, image in enumerate(read_frames(path)):
            yield frame, {"image": image, "frame": frame}


def read_frames(path) -> np.ndarray:
    """Return the frames of the .mat file: uint8 [1965, 28, 20, 1], in video order.

    Raises:
        ValueError: if the file is not the Frey Faces file.
    """
    required = (
        f"{path} must be the Frey Faces file, with a uint8 variable `ff` of {HEIGHT * WIDTH} x "
        f"{NUM_FRAMES}"
    )
    remedy = f"Download it again from {URL}."
    try:
        pixels = scipy.io.loadmat(str(path), variable_names=["ff"]).get("ff")
    except Exception as error:  # SciPy raises many types on a damaged file
        raise ValueError(f"{required}. Received: an unreadable file ({error}). {remedy}") from error
    if pixels is None or pixels.shape != (HEIGHT * WIDTH, NUM_FRAMES) or pixels.dtype != np.uint8:
        found = "no such variable" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        raise ValueError(f"{required}. Received: {found}. {remedy}")
    return pixels.T.reshape(NUM_FRAMES, HEIGHT, WIDTH, 1)
