"""What a run says of itself when it has ended."""

import numpy as np
import pytest
from vectors import Vectors

from dvae_tf import DVAE, corruptions, networks
from dvae_tf.data.splits import Dataset, Split
from dvae_tf.kinds.image import Image
from dvae_tf.runs import defaults, history, outcome
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options


def test_the_bound_is_that_of_the_best_epoch(tmp_path, rng):
    split = Split(rng.normal(size=(8, 3)).astype(np.float32), None, Vectors())
    columns = {name: [1.0, 2.0, 3.0, 4.0] for name in history.COLUMNS}
    columns |= {"epoch": [0, 1, 2, 3], "val_bound": [-3.0, np.nan, -1.0, -2.0]}
    reached = outcome.conclude(
        RunDirectory(tmp_path),
        defaults.resolve(Options(kind="vectors", noise="gaussian")),
        DVAE(*networks.mlp((3,), 2, "gaussian", hidden=(4,))),
        Dataset("x", split, split, split),
        columns,
    )
    assert reached == outcome.Outcome(-1.0)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["curves.png"]


def test_psnr_is_that_of_noisy_images_and_of_what_the_model_makes_of_them(tmp_path, images):
    split = Split(images[:8], None, Image())
    config = defaults.resolve(Options(noise="gaussian", noise_level=0.3))
    model = DVAE(*networks.mlp((8, 6, 1), 2, hidden=(4,)), corruption=corruptions.Gaussian(0.3))
    dataset = Dataset("bars", split, split, split)
    columns = {name: [1.0] for name in history.COLUMNS} | {"epoch": [0]}
    reached = outcome.conclude(RunDirectory(tmp_path), config, model, dataset, columns)
    clean, noisy = outcome.shown_examples(config, dataset, model.corruption)
    np.testing.assert_array_equal(clean, images[:8])
    assert np.std(noisy - clean) == pytest.approx(0.3, rel=0.2)  # nine standard errors
    expected = [
        np.mean(-10 * np.log10(((np.clip(x, 0, 1) - clean) ** 2).mean(axis=(1, 2, 3))))
        for x in (noisy, model(noisy).numpy())
    ]
    assert [reached.noisy_psnr, reached.denoised_psnr] == pytest.approx(expected, rel=1e-4)
    assert expected[0] - expected[1] > 1
