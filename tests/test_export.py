import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from dvae_tf import DVAE, corruptions, export, networks

SHAPE = (6, 5, 1)

# Runs in another process, where neither this package nor Keras nor TFP can be imported.
RELOAD = """
import sys

for name in ("keras", "tf_keras", "tensorflow_probability", "dvae_tf"):
    sys.modules[name] = None  # importing it raises ImportError

import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
given = np.load(sys.argv[2])
outputs = {}
for name, keys in (("denoise", ["image"]), ("serving_default", ["image"]), ("encode", ["image"]),
                   ("decode", ["latent"]), ("sample", ["seed"]), ("score", ["image", "seed"])):
    result = loaded.signatures[name](**{k: tf.constant(given[k]) for k in keys})
    outputs |= {f"{name}/{key}": value.numpy() for key, value in result.items()}
np.savez(sys.argv[3], **outputs)
"""


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.conv(SHAPE, 3, filters=(4,), hidden=8)
    return DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.1))


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export.export(model, tmp_path_factory.mktemp("an export"), version=1)


@pytest.fixture
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    return {name: loaded.signatures[name] for name in loaded.signatures}


@pytest.fixture
def image(rng):
    return rng.random((4, *SHAPE), np.float32)


def test_another_process_without_keras_gets_the_same(model, exported, image, rng, tmp_path):
    given = {
        "image": image,
        "latent": rng.normal(size=(4, 3)).astype(np.float32),
        "seed": np.arange(8, dtype=np.int32).reshape(4, 2),
    }
    np.savez(tmp_path / "in.npz", **given)
    arguments = [str(exported), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", RELOAD, *arguments], check=True)
    out = np.load(tmp_path / "out.npz")
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(out["denoise/denoised"], model(image), **close)
    np.testing.assert_array_equal(out["serving_default/denoised"], out["denoise/denoised"])
    stddev = model.denoise(image, num_samples=0).stddev
    np.testing.assert_allclose(out["denoise/stddev"], stddev, **close)
    q = model.encoder(image)
    np.testing.assert_allclose(out["encode/mean"], q.mean(), **close)
    np.testing.assert_allclose(out["encode/stddev"], q.stddev(), **close)
    decoded = model.decoder(given["latent"]).mean()
    np.testing.assert_allclose(out["decode/image"], decoded, **close)
    np.testing.assert_allclose(
        out["score/elbo"], out["score/reconstruction"] - out["score/kl"], **close
    )
    mean, variance = q.mean().numpy(), q.variance().numpy()
    kl = 0.5 * np.sum(mean**2 + variance - np.log(variance) - 1, axis=1)
    np.testing.assert_allclose(out["score/kl"], kl, rtol=1e-4, atol=1e-5)
    assert out["denoise/valid"].all()


def test_score_averages_to_the_elbo(model, signatures, image):
    seeds = np.arange(4000, dtype=np.int32).reshape(2000, 2)
    images = np.repeat(image[:1], 2000, axis=0)
    elbo = signatures["score"](image=tf.constant(images), seed=tf.constant(seeds))["elbo"].numpy()
    reference = model.elbo(image[:1], num_samples=20_000).numpy()[0]
    assert abs(elbo.mean() - reference) < 5 * elbo.std() * np.sqrt(1 / 2000 + 1 / 20_000)


@pytest.mark.parametrize("name", ["sample", "score"])
def test_each_row_depends_on_its_own_seed(signatures, image, name):
    seeds = tf.constant([[1, 2], [3, 4], [5, 6], [1, 2]], tf.int32)
    inputs = {"seed": seeds} | ({"image": tf.constant(image)} if name == "score" else {})
    order = [2, 0, 3, 1]
    permuted = {key: tf.gather(value, order) for key, value in inputs.items()}
    key = "image" if name == "sample" else "elbo"
    first = signatures[name](**inputs)[key].numpy()
    second = signatures[name](**permuted)[key].numpy()
    np.testing.assert_allclose(second, first[order], rtol=1e-5, atol=1e-6)
    if name == "sample":
        np.testing.assert_array_equal(first[0], first[3])
        assert np.abs(first[0] - first[1]).max() > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_zeros_and_touch_no_neighbour(signatures, image, bad):
    broken, zeroed = image.copy(), image.copy()
    broken[1, 2, 2, 0] = bad
    zeroed[1] = 0
    seed = tf.zeros([4, 2], tf.int32)
    for name, extra in (("denoise", {}), ("encode", {}), ("score", {"seed": seed})):
        result = signatures[name](image=tf.constant(broken), **extra)
        reference = signatures[name](image=tf.constant(zeroed), **extra)
        np.testing.assert_array_equal(result.pop("valid"), [True, False, True, True])
        for key, value in result.items():
            assert not np.any(value[1])
            others = [0, 2, 3]
            np.testing.assert_array_equal(value.numpy()[others], reference[key].numpy()[others])


@pytest.mark.parametrize("shape", [(2, 5, 6, 1), (2, 6, 5, 3), (6, 5, 1), (2, 30), ()])
def test_wrong_shapes_are_errors(signatures, shape):
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        signatures["denoise"](image=tf.zeros(shape))


def test_seed_rows_must_match_image_rows(signatures, image):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["score"](image=tf.constant(image), seed=tf.zeros([3, 2], tf.int32))


def test_empty_batch(signatures):
    assert signatures["denoise"](image=tf.zeros([0, *SHAPE]))["denoised"].shape == (0, *SHAPE)


def test_png(model, signatures, rng):
    pixels = rng.integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    files = tf.stack([tf.io.encode_png(image) for image in pixels])
    answer = signatures["denoise_png"](image_bytes=files)["denoised_bytes"]
    denoised = np.stack([tf.io.decode_png(content).numpy() for content in answer])
    expected = np.clip(model(pixels.astype(np.float32) / 255), 0, 1) * 255
    np.testing.assert_allclose(denoised, expected, atol=0.51)


def test_a_version_is_never_overwritten_and_failure_leaves_nothing(model, exported, tmp_path):
    with pytest.raises(FileExistsError, match="must not exist yet"):
        export.export(model, exported.parent, version=1)
    with pytest.raises(ValueError, match="`version` must be at least 1"):
        export.export(model, tmp_path, version=0)
    keras_model = keras.Sequential([])
    with pytest.raises(AttributeError):
        export.export(keras_model, tmp_path / "failed", version=1)
    assert not list((tmp_path / "failed").iterdir())
