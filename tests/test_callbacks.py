import keras
import numpy as np
import pytest
import tensorflow as tf

from dvae_tf import DVAE, networks
from dvae_tf.kinds.image.callbacks import ImageGrid
from dvae_tf.runs import callbacks


@pytest.fixture
def model():
    encoder, decoder = networks.mlp((4, 4, 1), 2, hidden=(4,))
    model = DVAE(encoder, decoder, objective="iwae")
    model.compile("adam", jit_compile=False)
    return model


def fit(model, images, *selected, epochs=5):
    return model.fit(images, epochs=epochs, callbacks=list(selected), verbose=0).history


def test_kl_warm_up_raises_the_weight_and_leaves_the_bound(model, rng):
    weights = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(float(model.kl_weight.numpy()))
    )
    images = rng.integers(0, 2, (32, 4, 4, 1)).astype(np.float32)
    history = fit(model, images, callbacks.KLWarmUp(4), record)
    assert weights == [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(history["loss"][-1], -history["bound"][-1], rtol=1e-6)
    # K = 1 and weight 0: the loss is the reconstruction alone.
    np.testing.assert_allclose(history["loss"][0], -history["reconstruction"][0], rtol=1e-6)


def test_kl_warm_up_refuses_the_doubly_reparameterized_gradient(rng):
    encoder, decoder = networks.mlp((4, 4, 1), 2, hidden=(4,))
    model = DVAE(encoder, decoder, objective="iwae", gradient="doubly_reparameterized")
    model.compile("adam")
    with pytest.raises(ValueError, match="KLWarmUp must go with gradient='reparameterized'"):
        fit(model, rng.random((4, 4, 4, 1)), callbacks.KLWarmUp(2))
    with pytest.raises(ValueError, match="`epochs` must be an integer of at least 1"):
        callbacks.KLWarmUp(0)


def test_image_grid_writes_to_disk_and_tensorboard(model, rng, tmp_path):
    images = rng.random((6, 4, 4, 1), np.float32)
    grid = ImageGrid(
        images, images, directory=tmp_path / "grids", log_dir=tmp_path / "logs", every=2
    )
    fit(model, images, grid)
    names = sorted(path.name for path in (tmp_path / "grids").iterdir())
    assert names == ["denoising-0002.png", "denoising-0004.png"]
    (events,) = (tmp_path / "logs").iterdir()
    assert b"\x89PNG" in events.read_bytes()
    with pytest.raises(ValueError, match="`every` must be an integer of at least 1"):
        ImageGrid(images, images, every=0)


def test_image_grid_shows_what_the_model_makes_of_the_noisy_images(model, rng, tmp_path):
    clean, noisy = rng.random((2, 3, 4, 4, 1), np.float32)
    grid = ImageGrid(clean, noisy, log_dir=tmp_path, every=1)
    grid.set_model(model)
    grid.on_epoch_end(0)
    grid.on_train_end()
    (path,) = tmp_path.iterdir()
    events = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    (value,) = (value for event in events for value in event.summary.value)
    *_, picture = tf.make_ndarray(value.tensor)  # after its width and height
    shown = tf.io.decode_png(picture)[..., 0].numpy() / 255
    expected = [np.hstack(images[..., 0]) for images in (clean, noisy, model(noisy).numpy())]
    np.testing.assert_allclose(shown, np.vstack(expected), atol=1 / 255)
